"""Rows that are written by name and handed to a driver by position, at no cost."""

import ast
import linecache
from collections.abc import Callable, Sequence
from operator import itemgetter
from types import CodeType
from typing import Any, ParamSpec

Row = dict[str, Any]
Values = tuple[Any, ...]
P = ParamSpec("P")


def in_order_of(names: Sequence[str]) -> Callable[[Callable[P, Row]], Callable[P, Values]]:
    """Make of a function that returns a row one that returns its values, in this order.

    The function has to end with `return` and the row as a dict literal. It is compiled once
    more, with a tuple in place of the dict: to make a dict of every row, and to take it apart
    again, costs a run on SQLite a fortieth of its time. Where its source is not at hand, that
    is what happens.

    Raises:
        ValueError: the row has no value for a name, or one for another name.
    """

    def in_order(function: Callable[P, Row]) -> Callable[P, Values]:
        code = function.__code__
        source = _source_of(code)
        if not source:
            values_of = itemgetter(*names)
            return lambda *given, **named: values_of(function(*given, **named))
        tree = ast.parse(source)
        _return_values(tree, names)
        ast.increment_lineno(tree, code.co_firstlineno - 1)
        made: dict[str, Callable[P, Values]] = {}
        again = compile(tree, code.co_filename, "exec")
        exec(again, function.__globals__, made)  # noqa: S102 - the function itself, but for its end
        return made[function.__name__]

    return in_order


def _source_of(code: CodeType) -> str:
    """As `inspect.getsource`, which reads every token of it and takes ten times as long.

    Empty where the interpreter was told to keep no places (`-X no_debug_ranges`), and for code
    that is in no file: since Python 3.13 the lines of `<string>` are those of any `-c`.
    """
    if code.co_filename.startswith("<"):
        return ""
    ends = (end for _, end, column, _ in code.co_positions() if end and column is not None)
    last = max(ends, default=0)
    return "".join(linecache.getlines(code.co_filename)[code.co_firstlineno - 1 : last])


def _return_values(tree: ast.Module, names: Sequence[str]) -> None:
    match tree.body:
        case [ast.FunctionDef(body=[*_, ast.Return(value=ast.Dict() as row) as end]) as whole]:
            whole.decorator_list = []
        case _:
            raise ValueError("a function does not end with the row that it returns")
    values = {
        ast.literal_eval(key): value
        for key, value in zip(row.keys, row.values, strict=True)
        if key is not None
    }
    if differing := set(names) ^ values.keys():
        raise ValueError(f"{whole.name} and its statement differ in {sorted(differing)}")
    end.value = ast.copy_location(ast.Tuple([values[n] for n in names], ast.Load()), row)

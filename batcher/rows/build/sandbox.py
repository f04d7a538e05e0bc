"""Where templates run: they make text of data only, the same in every process, within bounds.

Jinja's sandbox keeps a template from harm; this one also keeps it from sending what is no data
(a method, a generator, an address in memory) and from taking unlimited time or memory. A
template may use what is listed here; what it makes is weighed, and all of it together is
bounded.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Final, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.runtime import LoopContext, Macro, TemplateReference
from jinja2.sandbox import MAX_RANGE, ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace
from jinja2.visitor import NodeTransformer

from batcher.rows.build.template_limits import LIMITS, MOST_STEPS, refuse

MOST_BYTES: Final = 256 * 2**20  # of text that is made on the way to one text

_OF_TEXTS: Final = """
capitalize casefold center count endswith find format index isalnum isalpha isascii isdecimal
isdigit islower isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix
removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith
strip swapcase title upper zfill
"""
_METHODS: Final[dict[type, frozenset[str]]] = {
    str: frozenset(_OF_TEXTS.split()),
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index"}),
    float: frozenset({"is_integer"}),
}
_VIEWS: Final[tuple[type, ...]] = (type({}.keys()), type({}.values()), type({}.items()))
_OF_JINJA: Final = (LoopContext, Macro, TemplateReference, Cycler, Joiner, Namespace)
# `random` differs from run to run, `attr` goes around the rules, the others cannot be bounded.
_NO_FILTERS: Final = ("attr", "random", "urlize", "xmlattr", "pprint")
_NULL_IS_FINE: Final = frozenset({"d", "default", "tojson"})


class Function:
    """What a template may call and never write: a method of a value, `range`, `namespace`."""

    __slots__ = ("name", "of", "target")

    def __init__(self, name: str, target: Callable[..., Any], *of: object) -> None:
        self.name = name
        self.target = target
        self.of = of  # the value that it is a method of

    def __str__(self) -> str:  # noqa: PLE0307 - it never returns
        self._refuse()

    def __format__(self, spec: str) -> str:
        self._refuse()

    def __iter__(self) -> Iterator[Any]:
        self._refuse()

    __repr__ = __str__

    def _refuse(self) -> NoReturn:
        refuse(f"{self.name} is a function here and no data")


class Missing(jinja2.StrictUndefined):
    """A name that a row lacks: false when it is asked about, an error when it is written."""

    __slots__ = ()

    def __bool__(self) -> bool:  # type: ignore[override]  # the strict one never returns
        return False

    def __repr__(self) -> str:
        return self.__str__()


class Sandbox(ImmutableSandboxedEnvironment):
    """One template's own; call `begin` before each text."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            undefined=Missing,
            finalize=self._written,
            keep_trailing_newline=True,
            autoescape=False,
            optimized=False,  # what is folded when it is compiled is not weighed
        )
        self.begin()
        self._constant_bytes = 0
        self.globals = {
            "range": Function("range", _range),
            "dict": Function("dict", dict),
            "namespace": Function("namespace", Namespace),
            "cycler": Function("cycler", Cycler),
            "joiner": Function("joiner", Joiner),
        }
        filters = {
            **{n: f for n, f in self.filters.items() if n not in _NO_FILTERS},
            "default": _default,
            "d": _default,
        }
        self.filters = {name: self._guarded(name, f) for name, f in filters.items()}
        self.filters |= {"read": self._read, "made": self._weighed}
        self.filters |= {"written": self._written, "turns": self._turns}
        tests: dict[str, Any] = dict(self.tests)
        self.tests = {name: self._bounded(test) for name, test in tests.items()}

    def begin(self) -> None:
        """Grant what one text may take."""
        self._steps = MOST_STEPS
        self._bytes = MOST_BYTES

    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401 - any value of a row
        """A key of an object, else one of the methods that templates may call."""
        if isinstance(obj, _OF_JINJA):
            value = super().getattr(obj, attribute)
            return Function(attribute, value) if callable(value) else value
        found = self.getitem(obj, attribute)
        if not isinstance(found, jinja2.Undefined):
            return found
        for kind, methods in _METHODS.items():
            if isinstance(obj, kind) and attribute in methods:
                method = getattr(obj, attribute)
                return Function(attribute, self.wrap_str_format(method) or method, obj)
        return found

    def getitem(self, obj: Any, argument: Any) -> Any:  # noqa: ANN401 - any value of a row
        """A value of an object or list, and never a method."""
        if isinstance(obj, jinja2.Undefined):
            return obj  # what a missing value should have is missing too, as with null
        try:
            found = obj[argument]
        except (TypeError, LookupError):
            return self.undefined(obj=obj, name=argument)
        return self._weighed(found) if isinstance(argument, slice) else found

    def call(self, context: Any, obj: Any, /, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - any value of a row
        """What a function gives, when the template may have it."""
        self._step(4)  # dearer than a turn of a loop
        target = obj
        if isinstance(obj, Function):
            target, given = obj.target, (*obj.of, *args)
            for value in given:
                self._read(value)
            self._check(obj.name, given, options)
        elif isinstance(obj, (Macro, LoopContext)):
            turns = sum(len(a) for a in args if isinstance(a, (list, tuple, dict, str)))
            self._step(turns)
            self._take((turns + 1) * self._constant_bytes)
        made = super().call(context, target, *args, **options)
        if type(made) in _VIEWS:  # their differences are sets, in an order of the process
            made = list(made)
        return made if isinstance(made, _OF_JINJA) else self._weighed(made)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401 - any value of a row
        """The result of an operator, when it is not too large."""
        self._check(operator, (left, right), {})
        return self._weighed(super().call_binop(context, operator, left, right))

    def compiled(self, text: str) -> jinja2.Template:
        """The template of `text`, its loops, lists and comparisons counted."""
        tree = self.parse(text)
        self._constant_bytes = _constant_bytes(tree)
        counted = _Counting().visit(tree)
        return self.template_class.from_code(self, self.compile(counted), self.globals, None)

    def _written(self, value: object) -> object:
        """Jinja would write "None" into the prompt, and the answer would be paid for."""
        if value is None:
            refuse("a null would be written; use {{ column or '' }}")
        return self._weighed(value)

    def _weighed(self, value: Any) -> Any:  # noqa: ANN401 - any value of a row
        """`value`, when it is data and not too much; a missing value passes."""
        if isinstance(value, str):
            self._take(len(value))
        else:
            self._weigh_deep(value)
        return value

    def _read(self, value: Any) -> Any:  # noqa: ANN401 - any value of a row
        """`value`, which is looked through; a text quickly."""
        if isinstance(value, str):
            self._take(len(value) // 16)
        elif isinstance(value, (list, tuple, dict)):
            self._weigh_deep(value)
        return value

    def _weigh_deep(self, value: object) -> None:
        parts = [value]
        while parts:
            part = parts.pop()
            self._step(1)
            if isinstance(part, str):
                self._take(len(part))
            elif isinstance(part, dict):
                self._step(len(part))
                parts += (*part.keys(), *part.values())
            elif isinstance(part, (list, tuple)):
                self._step(len(part))
                parts += part
            elif isinstance(part, int):
                self._take(part.bit_length() // 8)
            elif not (part is None or isinstance(part, (float, jinja2.Undefined))):
                str(part) if isinstance(part, Function) else _refuse_kind(part)

    def _turns(self, values: Any, constant_bytes: int) -> Any:  # noqa: ANN401 - any value of a row
        """`values`, paid for as a loop over them."""
        if isinstance(values, (list, tuple, dict, str)):
            self._step(len(values))
            self._take(len(values) * constant_bytes)
        elif not isinstance(self._written(values), jinja2.Undefined):
            refuse("a loop goes over a list, an object or a text")
        return values

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        before = 1 if hasattr(function, "jinja_pass_arg") else 0

        @wraps(function)  # also the marks of what Jinja passes
        def run(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - any value of a row
            given = args[before:]
            for value in (*given, *options.values()):
                self._weighed(value)
            if given[0] is None and name not in _NULL_IS_FINE:
                refuse(f"a null would be written by | {name}; use {{{{ column or '' }}}}")
            self._check(name, given, options)
            made = function(*args, **options)
            return self._weighed(list(made) if isinstance(made, Iterator) else made)

        return run

    def _bounded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*args: Any) -> Any:  # noqa: ANN401 - any value of a row
            for value in args:
                self._read(value)
            return function(*args)

        return run

    def _check(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Refuse an operation that would give more than is left, before it does."""
        limit = LIMITS.get(name)
        if limit is not None:
            self._take(limit(*args, **options), give_back=True)

    def _step(self, count: int) -> None:
        self._steps -= count
        if self._steps < 0:
            refuse(f"it takes more than {MOST_STEPS:,} steps")

    def _take(self, count: int, *, give_back: bool = False) -> None:
        if count > self._bytes:
            refuse(f"it makes more than {MOST_BYTES:,} bytes of text")
        if not give_back:
            self._bytes -= count


class _Counting(NodeTransformer):
    """Has everything weighed that Jinja itself does not hand to the environment."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - Jinja's name
        constant = nodes.Const(_constant_bytes(node))
        self.generic_visit(node)
        node.iter = _filter(node.iter, "turns", constant)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Concat:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        node.nodes = [_filter(part, "written") for part in node.nodes]
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        node.expr = _filter(node.expr, "read")
        for operand in node.ops:
            operand.expr = _filter(operand.expr, "read")
        return node

    def visit_List(self, node: nodes.List) -> nodes.Expr:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        return _filter(node, "made")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Expr:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        return _filter(node, "made")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        return node if node.ctx == "store" else _filter(node, "made")


def _filter(node: nodes.Node, name: str, *args: nodes.Expr) -> nodes.Expr:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _constant_bytes(node: nodes.Node) -> int:
    return sum(len(data.data) for data in node.find_all(nodes.TemplateData))


def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - as Jinja has it
    """A null counts as missing: people mean both."""
    missing = value is None or isinstance(value, jinja2.Undefined)
    return default_value if missing or (boolean and not value) else value


def _range(*ends: int) -> list[int]:
    if len(range(*ends)) > MAX_RANGE:
        refuse(f"its range is longer than {MAX_RANGE:,}")
    return list(range(*ends))


def _refuse_kind(value: object) -> NoReturn:
    name = type(value).__name__.lower().removesuffix("context")
    refuse(f"a {name} of the template is no data")

"""About 200 varied requests that the first party takes: each field, block, tool and variant."""

from itertools import product
from typing import Any

OLD, MIDDLE, OPUS_5, NEW = (
    "claude-haiku-4-5",
    "claude-sonnet-4-6",
    "claude-opus-5",
    "claude-sonnet-5-5",
)
PNG = "iVBORw0KGgo="
PDF = "JVBERi0xLjQK"
CACHED = {"type": "ephemeral"}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"name": "weather", "description": "Tells the weather", "input_schema": SCHEMA}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}


def text(words: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **fields}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def said(role: str, words: str) -> dict[str, Any]:
    return {"role": role, "content": words}


def use(id_: str = "toolu_1", **fields: Any) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": id_,
        "name": "weather",
        "input": {"city": "Kyiv"},
        **fields,
    }


def result(id_: str = "toolu_1", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id_, **fields}


def image(**source: Any) -> dict[str, Any]:
    return {"type": "image", "source": source}


def document(source: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "document", "source": source, **fields}


BASE64_IMAGES = [
    image(type="base64", media_type=f"image/{kind}", data=PNG)
    for kind in ("png", "jpeg", "gif", "webp")
]
URL_IMAGE = image(type="url", url="https://example.org/a.png")
TEXT_SOURCE = {"type": "text", "media_type": "text/plain", "data": "once upon a time"}
PDF_SOURCE = {"type": "base64", "media_type": "application/pdf", "data": PDF}
SEARCH_RESULT = {
    "type": "search_result",
    "source": "https://example.org",
    "title": "A page",
    "content": [text("found")],
    "citations": {"enabled": True},
}
SERVER_USE = {
    "type": "server_tool_use",
    "id": "srvtoolu_1",
    "name": "web_search",
    "input": {"query": "weather"},
}
SERVER_RESULT = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [
        {
            "type": "web_search_result",
            "title": "W",
            "url": "https://example.org",
            "encrypted_content": "EqgfCioIARgB",
            "page_age": None,
        }
    ],
}
THINKING = {"type": "thinking", "thinking": "let me see", "signature": "EqQBCgIYAhIM"}

# One line per thing: messages, for a model that takes them.
MESSAGES: dict[str, list[dict[str, Any]]] = {
    "a text": [said("user", "hello")],
    "signs of many alphabets": [
        said("user", "Grüße, Київ, 東京, 🙂, \u2028, \x7f, \\u00e9, \"'")
    ],
    "a NUL and control characters": [said("user", "a\0b\x01\t\r\n")],
    "a text block": [user(text())],
    "a marked text block": [user(text(cache_control=CACHED))],
    "a mark of an hour": [user(text(cache_control={**CACHED, "ttl": "1h"}))],
    "text with no citations": [user(text(citations=None))],
    "several text blocks": [user(text("one"), text("two"), text("three"))],
    "a conversation": [said("user", "a"), said("assistant", "b"), said("user", "c")],
    "a conversation in blocks": [user(text("a")), assistant(text("b")), user(text("c"))],
    "two user messages in a row": [said("user", "a"), said("user", "b")],
    "an image by URL": [user(URL_IMAGE, text("what is it"))],
    "an image by file id": [user(image(type="file", file_id="file_1"), text())],
    "an image with transformations": [
        user({**URL_IMAGE, "transformations": {"oversized_image": "error"}}, text())
    ],
    "a marked image": [user({**URL_IMAGE, "cache_control": CACHED}, text())],
    "several images": [user(*BASE64_IMAGES, text("compare"))],
    "a PDF in base64": [user(document(PDF_SOURCE), text("summarise"))],
    "a PDF by URL": [user(document({"type": "url", "url": "https://example.org/a.pdf"}))],
    "a document by file id": [user(document({"type": "file", "file_id": "file_2"}), text())],
    "a document as text": [user(document(TEXT_SOURCE, title="T", context="C"), text())],
    "a document with citations": [user(document(TEXT_SOURCE, citations={"enabled": True}))],
    "a document of content": [
        user(document({"type": "content", "content": [text("part"), URL_IMAGE]}), text())
    ],
    "a document of one text": [user(document({"type": "content", "content": "whole"}))],
    "a marked document": [user(document(PDF_SOURCE, cache_control=CACHED), text())],
    "a search result": [user(SEARCH_RESULT, text("cite it"))],
    "an upload to the container": [user({"type": "container_upload", "file_id": "file_3"})],
    "server tools used before": [
        said("user", "search"),
        assistant(SERVER_USE, SERVER_RESULT, text("found")),
        said("user", "more"),
    ],
    "code run before": [
        said("user", "run"),
        assistant(
            {**SERVER_USE, "name": "bash_code_execution"},
            {
                "type": "bash_code_execution_tool_result",
                "tool_use_id": "srvtoolu_1",
                "content": {
                    "type": "bash_code_execution_result",
                    "stdout": "1\n",
                    "stderr": "",
                    "return_code": 0,
                    "content": [],
                },
            },
        ),
        said("user", "again"),
    ],
    "redacted thinking": [
        said("user", "think"),
        assistant({"type": "redacted_thinking", "data": "EmwKAhgB"}, text("done")),
        said("user", "go on"),
    ],
    "thinking sent back": [
        said("user", "think"),
        assistant(THINKING, text("done")),
        said("user", "go on"),
    ],
    "a future block": [user({"type": "future_block", "x": {"y": [1, None, 2.5]}}, text())],
}

RESULTS: dict[str, Any] = {
    "no content": result(),
    "a text": result(content="12 degrees"),
    "an error": result(content="no such city", is_error=True),
    "text blocks": result(content=[text("12"), text("degrees")]),
    "an image": result(content=[text("map"), BASE64_IMAGES[0]]),
    "a document": result(content=[document(TEXT_SOURCE)]),
    "search results": result(content=[SEARCH_RESULT]),
    "a tool reference": result(content=[{"type": "tool_reference", "tool_name": "weather"}]),
    "a mark": result(content="12 degrees", cache_control=CACHED),
}

# Top-level fields, each for all models.
FIELDS: dict[str, dict[str, Any]] = {
    "max_tokens 1": {"max_tokens": 1},
    "a system text": {"system": "be brief"},
    "system blocks": {"system": [text("be brief"), text("and kind", cache_control=CACHED)]},
    "stop sequences": {"stop_sequences": ["END", "\n\nHuman:"]},
    "metadata": {"metadata": {"user_id": "user-1"}},
    "metadata without a user": {"metadata": {"user_id": None}},
    "service tier auto": {"service_tier": "auto"},
    "service tier standard": {"service_tier": "standard_only"},
    "a speed": {"speed": "standard"},
    "a container": {"container": "container_1"},
    "a container with skills": {
        "container": {"id": None, "skills": [{"type": "anthropic", "skill_id": "pdf"}]}
    },
    "diagnostics": {"diagnostics": {"previous_message_id": "msg_1"}},
    "caching at the top": {"cache_control": {**CACHED, "ttl": "1h"}},
    "no caching": {"cache_control": None},
    "not streamed": {"stream": False},
    "streamed": {"stream": True},
    "an unknown field": {"future_field": {"a": [1, 2.5, None, "x"], "b": True}},
    "a format": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    "the old place of format": {"output_format": {"type": "json_schema", "schema": SCHEMA}},
    "a default temperature": {"temperature": 1.0},
    "a tool": {"tools": [TOOL]},
    "a tool of type custom": {"tools": [{**TOOL, "type": "custom", "strict": True}]},
    "a marked tool": {"tools": [{**TOOL, "cache_control": CACHED}]},
    "a tool with everything": {
        "tools": [
            {
                **TOOL,
                "eager_input_streaming": True,
                "defer_loading": False,
                "input_examples": [{"city": "Oslo", "days": 2}],
                "allowed_callers": ["direct", "code_execution_20260120"],
            }
        ]
    },
    "a choice": {"tools": [TOOL], "tool_choice": {"type": "auto"}},
    "one tool at a time": {
        "tools": [TOOL],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    },
    "no tool": {"tools": [TOOL], "tool_choice": {"type": "none"}},
    "web search": {
        "tools": [
            {
                **SEARCH,
                "allowed_domains": ["example.org"],
                "user_location": {"type": "approximate", "city": "Oslo", "country": "NO"},
            }
        ]
    },
    "blocked domains": {"tools": [{**SEARCH, "blocked_domains": ["example.org"]}]},
    "web fetch": {
        "tools": [
            {
                "type": "web_fetch_20250910",
                "name": "web_fetch",
                "max_content_tokens": 100,
                "citations": {"enabled": True},
            }
        ]
    },
    "code execution": {
        "tools": [{"type": "code_execution_20250825", "name": "code_execution"}]
    },
    "a shell": {"tools": [{"type": "bash_20250124", "name": "bash"}]},
    "an editor": {
        "tools": [
            {
                "type": "text_editor_20250728",
                "name": "str_replace_based_edit_tool",
                "max_characters": 1000,
            }
        ]
    },
    "a memory": {"tools": [{"type": "memory_20250818", "name": "memory"}]},
    "tool search": {
        "tools": [
            {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"},
            {**TOOL, "defer_loading": True},
        ]
    },
    "a toolset without a name": {"tools": [{"type": "browser_toolset_20260801"}, TOOL]},
}

# Fields that only some models take.
OF_MODELS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "sampling": ((OLD, MIDDLE), {"temperature": 0.25, "top_k": 40}),
    "nucleus sampling": ((OLD, MIDDLE), {"top_p": 0.9}),
    "prefill": (
        (OLD,),
        {"messages": [said("user", "as JSON"), said("assistant", "{")]},
    ),
    "an empty last assistant message": (
        (OLD,),
        {"messages": [said("user", "a"), said("assistant", "")]},
    ),
    "a paused turn": (
        (OLD, MIDDLE, NEW),
        {
            "messages": [said("user", "search"), assistant(text("I search"), SERVER_USE)],
            "tools": [SEARCH],
        },
    ),
    "manual thinking": (
        (OLD, MIDDLE),
        {"max_tokens": 4096, "thinking": {"type": "enabled", "budget_tokens": 1024}},
    ),
    "manual thinking, shown short": (
        (MIDDLE,),
        {
            "max_tokens": 4096,
            "thinking": {"type": "enabled", "budget_tokens": 2048, "display": "summarized"},
        },
    ),
    "no thinking": ((OLD, MIDDLE, OPUS_5), {"thinking": {"type": "disabled"}}),
    "adaptive thinking": ((MIDDLE, OPUS_5, NEW), {"thinking": {"type": "adaptive"}}),
    "hidden thinking": (
        (OPUS_5, NEW),
        {"thinking": {"type": "adaptive", "display": "omitted"}},
    ),
    "thinking between tools": (
        (NEW,),
        {"thinking": {"type": "between_tools"}, "tools": [TOOL]},
    ),
    "low effort": ((MIDDLE, OPUS_5, NEW), {"output_config": {"effort": "low"}}),
    "the most effort": ((MIDDLE, OPUS_5, NEW), {"output_config": {"effort": "max"}}),
    "much effort": ((OPUS_5, NEW), {"output_config": {"effort": "xhigh"}}),
    "a place": ((MIDDLE, OPUS_5, NEW), {"inference_geo": "us"}),
    "no place": ((OLD, MIDDLE), {"inference_geo": None}),
    "any tool": (
        (OLD, MIDDLE, OPUS_5),
        {"tools": [TOOL], "tool_choice": {"type": "any"}},
    ),
    "a certain tool": (
        (OLD, MIDDLE, OPUS_5),
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "weather"}},
    ),
    "a system message": (
        (OPUS_5, NEW),
        {"messages": [said("user", "a"), {"role": "system", "content": [text("be brief")]}]},
    ),
    "fast": ((OPUS_5,), {"speed": "fast"}),
    "pre-warming": ((MIDDLE, NEW), {"max_tokens": 0}),
    "the longest answer": ((MIDDLE, OPUS_5, NEW), {"max_tokens": 128_000}),
}

# Fields that need a beta header.
OF_BETAS: dict[str, tuple[str, dict[str, Any]]] = {
    "context management": (
        "context-management-2025-06-27",
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
    ),
    "compaction": ("compact-2026-09-04", {"compaction": {"type": "summarize"}}),
    "MCP": (
        "mcp-client-2026-09-15",
        {
            "mcp_servers": [{"type": "url", "name": "m", "url": "https://example.org/mcp"}],
            "tools": [{"type": "mcp_toolset", "mcp_server_name": "m"}],
        },
    ),
    "default fallbacks": ("server-side-fallback-2026-07-01", {"fallbacks": "default"}),
    "fallbacks": (
        "server-side-fallback-2026-07-01",
        {"fallbacks": [{"model": MIDDLE, "max_tokens": 10}]},
    ),
    "a thread": ("message-threads-2026-08-12", {"thread": {"id": "thread_1"}}),
    "a task budget": (
        "task-budgets-2026-03-13",
        {"output_config": {"task_budget": {"type": "tokens", "total": 20_000}}},
    ),
    "long thinking": (
        "interleaved-thinking-2025-05-14",
        {"thinking": {"type": "enabled", "budget_tokens": 9_000}},
    ),
}


def body(model: str = MIDDLE, **fields: Any) -> dict[str, Any]:
    return {
        "model": model,
        "max_tokens": 256,
        "messages": [said("user", "hello")],
    } | fields


def corpus() -> list[tuple[str, dict[str, Any], tuple[str, ...]]]:
    """(name, params, betas of the row); names are unique."""
    found = [
        (f"{m}: {n}", body(m, messages=x), ()) for (n, x), m in _each(MESSAGES, MIDDLE, NEW)
    ]
    for name, answer in RESULTS.items():
        messages = [said("user", "weather?"), assistant(text("I look"), use()), user(answer)]
        found.append((f"a result with {name}", body(messages=messages, tools=[TOOL]), ()))
    both = [user(result("a", content="1"), result("b", content="2"), text("so?"))]
    messages = [said("user", "both"), assistant(use("a"), use("b")), *both]
    found.append(("two tools at once", body(messages=messages, tools=[TOOL]), ()))
    found += [(f"{m}: {n}", body(m, **x), ()) for (n, x), m in _each(FIELDS, OLD, NEW)]
    for name, (models, fields) in OF_MODELS.items():
        found += [(f"{m}: {name}", body(m, **fields), ()) for m in models]
    found += [(name, body(**fields), (beta,)) for name, (beta, fields) in OF_BETAS.items()]
    return found


def _each(table: dict[str, Any], *models: str) -> Any:
    return product(table.items(), models)

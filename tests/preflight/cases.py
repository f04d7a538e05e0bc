# ruff: noqa: E501 - a table: one line per rule
"""For each rule fields that it refuses, and fields just inside it that pass."""

from base64 import b64encode
from typing import Any

from tests.rows.corpus import (
    CACHED,
    PDF_SOURCE,
    SCHEMA,
    SEARCH,
    SEARCH_RESULT,
    SERVER_RESULT,
    SERVER_USE,
    TEXT_SOURCE,
    THINKING,
    TOOL,
    URL_IMAGE,
    assistant,
    document,
    image,
    result,
    said,
    text,
    use,
    user,
)

NEW_VERSION = {"api_version": "2026-10-21"}
H45, S45, O45 = "claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5"
S46, O46, O47, S5, O5 = (
    "claude-sonnet-4-6",
    "claude-opus-4-6",
    "claude-opus-4-7",
    "claude-sonnet-5",
    "claude-opus-5",
)
S55, O55, H55, F5 = (
    "claude-sonnet-5-5",
    "claude-opus-5-5",
    "claude-haiku-5-5",
    "claude-fable-5",
)

Case = tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]


def says(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def shows(*blocks: Any) -> dict[str, Any]:
    return says(user(*blocks))


def thinks(type_: str, **fields: Any) -> dict[str, Any]:
    return {"thinking": {"type": type_, **fields}, "max_tokens": 4096}


MANUAL = thinks("enabled", budget_tokens=1024)
ASKED = (said("user", "weather?"), assistant(use()))
AFTER = {"tools": [TOOL]}


def answers(block: Any) -> dict[str, Any]:
    return says(*ASKED, user(block)) | AFTER


def named(**tool: Any) -> dict[str, Any]:
    return {"tools": [tool]}


def chooses(type_: str, **fields: Any) -> dict[str, Any]:
    return {"tools": [TOOL], "tool_choice": {"type": type_, **fields}}


def forms(schema: Any, **fields: Any) -> dict[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}} | fields


def effort(level: str) -> dict[str, Any]:
    return {"output_config": {"effort": level}}


def on(model: str, **options: Any) -> dict[str, Any]:
    return {"model": model, **options}


def at(dialect: str, **options: Any) -> dict[str, Any]:
    return {"dialect": dialect, **options}


def beta(name: str) -> dict[str, Any]:
    return {"betas": (name,)}


def pixels(side: int) -> dict[str, Any]:
    start = b"\x89PNG\r\n\x1a\n" + bytes(8) + side.to_bytes(4, "big") + bytes([0, 0, 0, 1])
    return image(type="base64", media_type="image/png", data=b64encode(start).decode())


def without(block: dict[str, Any], name: str) -> dict[str, Any]:
    return {n: v for n, v in block.items() if n != name}


MARKED = text(cache_control=CACHED)
HOUR = text(cache_control={**CACHED, "ttl": "1h"})
MCP = {"mcp_servers": [{"type": "url", "name": "m", "url": "https://example.org"}]}
TOOLSET = {"type": "mcp_toolset", "mcp_server_name": "m"}
FETCH = {"type": "web_fetch_20250910", "name": "web_fetch"}

# (rule, refused fields, fields that pass, where: model, dialect, api_version, betas)
CASES: list[Case] = [
    ("SAMPLING_REMOVED", {"temperature": 1}, {}, NEW_VERSION),
    ("SAMPLING_REMOVED", {"top_p": 1}, {}, NEW_VERSION),
    ("SAMPLING_REMOVED", {"top_k": 1}, {}, on(S46, **NEW_VERSION, **at("crun"))),
    ("TEMPERATURE_NOT_DEFAULT", {"temperature": 0.9}, {"temperature": 1}, on(O47)),
    ("TOP_P_NOT_DEFAULT", {"top_p": 0.9}, {"top_p": 1.0}, on("anthropic/claude-fable-5.1")),
    ("TOP_K_NOT_DEFAULT", {"top_k": 1}, {"top_k": None}, on(H55)),
    ("TEMPERATURE_RANGE", {"temperature": 1.01}, {"temperature": 1}, on(S46)),
    ("TEMPERATURE_RANGE", {"temperature": -0.1}, {"temperature": 0}, at("crun")),
    ("TEMPERATURE_RANGE_OF_DEEPSEEK", {"temperature": 2.1}, {"temperature": 2}, at("deepseek")),
    ("TOP_P_RANGE", {"top_p": 1.5}, {"top_p": 0}, on(S46)),
    ("TOP_K_RANGE", {"top_k": -1}, {"top_k": 0}, on(S46)),
    ("TEMPERATURE_WITH_TOP_P", {"temperature": 1, "top_p": 0.9}, {"top_p": 0.9}, on(H45)),
    ("TEMPERATURE_WITH_THINKING", MANUAL | {"temperature": 0.5}, MANUAL | {"temperature": 1}, on(O45)),
    ("TOP_K_WITH_THINKING", thinks("adaptive") | {"top_k": 5}, thinks("disabled") | {"top_k": 5}, on(O46)),
    ("TOP_P_WITH_THINKING", MANUAL | {"top_p": 0.94}, MANUAL | {"top_p": 0.95}, on(S45)),
    ("TOO_MANY_MESSAGES", says(*[said("user", "a")] * 100_001), says(*[said("user", "a")] * 100_000), {}),
    ("MAX_TOKENS_TOO_LARGE_BEFORE_4_6", {"max_tokens": 64_001}, {"max_tokens": 64_000}, on(H45)),
    ("MAX_TOKENS_TOO_LARGE", {"max_tokens": 128_001}, {"max_tokens": 128_000}, on(S55)),
    ("MAX_TOKENS_ZERO", {"max_tokens": 0}, {"max_tokens": 1}, at("vllm")),
    ("PREWARM_WITH_STREAM", {"max_tokens": 0, "stream": True}, {"max_tokens": 0, "stream": False}, {}),
    ("PREWARM_WITH_THINKING", thinks("enabled") | {"max_tokens": 0}, thinks("adaptive") | {"max_tokens": 0}, {}),
    ("PREWARM_WITH_FORMAT", forms(SCHEMA, max_tokens=0), forms(SCHEMA, max_tokens=1), {}),
    ("PREWARM_WITH_FORCED_TOOL", chooses("any") | {"max_tokens": 0}, chooses("auto") | {"max_tokens": 0}, {}),
    ("STOP_SEQUENCE_BLANK", {"stop_sequences": ["a", " \n"]}, {"stop_sequences": ["a", " b"]}, {}),
    ("STOP_SEQUENCE_BLANK", {"stop_sequences": [5]}, {"stop_sequences": []}, {}),
    ("USER_ID_TOO_LONG", {"metadata": {"user_id": "u" * 257}}, {"metadata": {"user_id": "u" * 256}}, {}),
    ("SERVICE_TIER_UNKNOWN", {"service_tier": "priority"}, {"service_tier": "standard_only"}, at("sunra")),
    ("INFERENCE_GEO_MODEL", {"inference_geo": "us"}, {"inference_geo": None}, on(O45)),
    ("SPEED_UNKNOWN", {"speed": "slow"}, {"speed": "standard"}, {}),
    ("SPEED_MODEL", {"speed": "fast"}, {"speed": "standard"}, on(O47)),
    ("TOO_MANY_SKILLS", {"container": {"skills": [{}] * 21}}, {"container": {"skills": [{}] * 20}}, {}),
    ("TOO_MANY_FALLBACKS", {"fallbacks": [{}] * 4}, {"fallbacks": [{}] * 3}, at("openrouter")),
    ("SESSION_ID_TOO_LONG", {"session_id": "s" * 257}, {"session_id": "s" * 256}, at("openrouter")),
    ("BETAS_IN_BODY", {"betas": ["a"]}, {}, {}),
    ("CONTEXT_MANAGEMENT_BETA", {"context_management": {"edits": []}}, {}, beta("compact")),
    ("COMPACTION_BETA", {"compaction": {"type": "summarize"}}, {}, beta("files-api-2025-04-14")),
    ("MCP_BETA", MCP | {"tools": [TOOLSET]}, {"tools": [TOOL]}, {}),
    ("MCP_SERVER_NOT_USED_ONCE", MCP | AFTER, MCP | {"tools": [TOOLSET]}, beta("mcp-client-2026-09-15")),
    ("MCP_SERVER_NOT_USED_ONCE", MCP | {"tools": [TOOLSET] * 2}, MCP | {"tools": [TOOLSET]}, beta("mcp-client-x")),
    ("FALLBACKS_BETA", {"fallbacks": "default"}, {}, {}),
    ("THREAD_BETA", {"thread": {"id": "t"}}, {"thread": None}, {}),
    ("TASK_BUDGET_BETA", {"output_config": {"task_budget": {"total": 1}}}, effort("low"), on(O5)),
    ("SYSTEM_MESSAGE_MODEL", says(said("user", "a"), said("system", "b")), {"system": "b"}, on(O47)),
    ("SYSTEM_MESSAGE_ENDPOINT", says(said("user", "a"), said("system", "b")), {"system": "b"}, on(O5, **at("crun"))),
    ("SYSTEM_MESSAGE_OUT_OF_PLACE", says(said("system", "a"), said("user", "b")), says(said("user", "b"), said("system", "a")), on(O5)),
    ("SYSTEM_MESSAGE_OUT_OF_PLACE", says(said("user", "a"), said("system", "b"), said("user", "c")),
     says(said("user", "a"), said("system", "b"), said("assistant", "c"), said("user", "d")), on(O5)),
    ("SYSTEM_MESSAGE_OUT_OF_PLACE", says(said("user", "a"), said("assistant", "b"), said("system", "c")),
     says(said("user", "a"), assistant(SERVER_USE, SERVER_RESULT), said("system", "c")), on(O5)),
    ("SYSTEM_MESSAGE_CONTENT", says(said("user", "a"), {"role": "system", "content": [URL_IMAGE]}),
     says(said("user", "a"), {"role": "system", "content": [text()]}), on(O5)),
    ("SYSTEM_BLOCK_TYPE", {"system": [URL_IMAGE]}, {"system": [text()]}, {}),
    ("SYSTEM_NOT_BLOCKS", {"system": ["be brief"]}, {"system": "be brief"}, at("crun")),
    ("EMPTY_MESSAGE", says(said("user", "")), says(said("user", "a"), said("assistant", "")), {}),
    ("EMPTY_MESSAGE", says(user()), says(user(text())), {}),
    ("PREFILL_MODEL", says(said("user", "a"), said("assistant", "{")), says(said("user", "a"), assistant(SERVER_USE)) | named(**SEARCH), on(S46)),
    ("PREFILL_MODEL", says(said("user", "a"), assistant(text("{"))), says(said("user", "a"), said("assistant", "b"), said("user", "c")), on("claude-mythos-preview")),
    ("PREFILL_WITH_THINKING", MANUAL | says(said("user", "a"), said("assistant", "{")), says(said("user", "a"), said("assistant", "{")), on(H45)),
    ("PREFILL_WITH_FORMAT", forms(SCHEMA) | says(said("user", "a"), said("assistant", "{")), forms(SCHEMA), on(H45)),
    ("PREFILL_ENDS_IN_SPACE", says(said("user", "a"), said("assistant", "So, ")), says(said("user", "a"), said("assistant", "So,")), on(H45)),
    ("PENDING_TOOL_MISSING", says(said("user", "a"), assistant(SERVER_USE)) | AFTER, says(said("user", "a"), assistant(SERVER_USE)) | named(**SEARCH), {}),
    ("PENDING_TOOL_MISSING", says(said("user", "a"), assistant(text(), SERVER_USE)), says(said("user", "a"), assistant(SERVER_USE, SERVER_RESULT)), {}),
    ("TOOL_USE_UNANSWERED", says(*ASKED, said("user", "well?")) | AFTER, answers(result()), {}),
    ("TOOL_USE_UNANSWERED", says(*ASKED) | AFTER, answers(result()), at("crun")),
    ("TOOL_USE_UNANSWERED", says(said("user", "a"), assistant(use("a"), use("b")), user(result("a"))) | AFTER,
     says(said("user", "a"), assistant(use("a"), use("b")), user(result("a")), user(result("b"))) | AFTER, {}),
    ("TOOL_RESULT_UNASKED", shows(result()) | AFTER, answers(result()), {}),
    ("TOOL_RESULT_LATE", says(*ASKED, user(text(), result())) | AFTER, says(*ASKED, user(result(), text())) | AFTER, {}),
    ("BLOCK_NOT_FOR_ASSISTANT", says(said("user", "a"), assistant(URL_IMAGE), said("user", "b")),
     says(said("user", "a"), assistant(text()), user(URL_IMAGE)), {}),
    ("BLOCK_NOT_FOR_USER", shows(THINKING), says(said("user", "a"), assistant(THINKING, text()), said("user", "b")), {}),
    ("DOCUMENT_IN_ASSISTANT", says(said("user", "a"), assistant(document(TEXT_SOURCE)), said("user", "b")),
     shows(document(TEXT_SOURCE)), NEW_VERSION),
    ("CITATIONS_IN_USER_TEXT", shows(text(citations=[{"type": "char_location"}])), shows(text(citations=[])), NEW_VERSION),
    ("CITATIONS_IN_USER_TEXT", shows({**SEARCH_RESULT, "content": [text(citations=[{}])]}), shows(SEARCH_RESULT), NEW_VERSION),
    ("EMPTY_TEXT", shows(text("")), shows(text(" a")), {}),
    ("TEXT_INCOMPLETE", shows({"type": "text"}), shows(text()), {}),
    ("IMAGE_INCOMPLETE", shows({"type": "image"}), shows(URL_IMAGE), {}),
    ("IMAGE_SOURCE", shows(image(type="https", url="x")), shows(image(type="file", file_id="f")), {}),
    ("IMAGE_MEDIA_TYPE", shows(image(type="base64", media_type="image/tiff", data="")),
     shows(image(type="base64", media_type="image/webp", data="")), {}),
    ("IMAGE_TOO_LARGE", shows(image(type="base64", media_type="image/png", data="a" * 10_485_761)),
     shows(image(type="base64", media_type="image/png", data="a" * 10_485_760)), {}),
    ("IMAGE_PIXELS", shows(pixels(8001)), shows(*[pixels(8000)] * 20), {}),
    ("IMAGE_PIXELS", answers(result(content=[pixels(8001)])), answers(result(content=[pixels(8000)])), {}),
    ("IMAGE_PIXELS_OF_MANY", shows(*[pixels(2000)] * 20, pixels(2001)), shows(*[pixels(2000)] * 21), {}),
    ("IMAGE_PIXELS_OF_MANY", shows(*[URL_IMAGE] * 20, pixels(2001)), shows(*[URL_IMAGE] * 19, pixels(2001)), {}),
    ("TOO_MANY_IMAGES_BEFORE_4_6", shows(*[URL_IMAGE] * 101), shows(*[URL_IMAGE] * 100), on(H45)),
    ("TOO_MANY_IMAGES", shows(*[URL_IMAGE] * 601), shows(*[URL_IMAGE] * 600), on(S46)),
    ("DOCUMENT_INCOMPLETE", shows({"type": "document", "title": "t"}), shows(document(PDF_SOURCE)), {}),
    ("DOCUMENT_SOURCE", shows(document({"type": "html", "data": "x"})), shows(document({"type": "url", "url": "x"})), {}),
    ("DOCUMENT_MEDIA_TYPE", shows(document({**PDF_SOURCE, "media_type": "text/plain"})), shows(document(PDF_SOURCE)), {}),
    ("DOCUMENT_TEXT_MEDIA_TYPE", shows(document({**TEXT_SOURCE, "media_type": "text/html"})), shows(document(TEXT_SOURCE)), {}),
    ("SEARCH_RESULT_INCOMPLETE", shows(without(SEARCH_RESULT, "title")), shows(SEARCH_RESULT), {}),
    ("TOOL_USE_INCOMPLETE", says(said("user", "a"), assistant(without(use(), "name")), user(result())) | AFTER, answers(result()), {}),
    ("TOOL_USE_INPUT", says(said("user", "a"), assistant(use(input="{}")), user(result())) | AFTER,
     says(said("user", "a"), assistant(use(input={})), user(result())) | AFTER, {}),
    ("TOOL_USE_ID", says(said("user", "a"), assistant(use("a:b")), user(result("a:b"))) | AFTER,
     says(said("user", "a"), assistant(use("a-b_1")), user(result("a-b_1"))) | AFTER, {}),
    ("TOOL_RESULT_INCOMPLETE", says(said("user", "a"), assistant(use()), user(result(), {"type": "tool_result"})) | AFTER | {"thread": {}},
     answers(result()), beta("message-threads-2026-08-12")),
    ("TOOL_RESULT_CONTENT", answers(result(content=[{"type": "container_upload", "file_id": "f"}])), answers(result(content=[URL_IMAGE])), {}),
    ("THINKING_INCOMPLETE", says(said("user", "a"), assistant(without(THINKING, "signature"), text()), said("user", "b")),
     says(said("user", "a"), assistant({**THINKING, "thinking": ""}, text()), said("user", "b")), {}),
    ("REDACTED_THINKING_INCOMPLETE", says(said("user", "a"), assistant({"type": "redacted_thinking"}), said("user", "b")),
     says(said("user", "a"), assistant({"type": "redacted_thinking", "data": "x"}), said("user", "b")), {}),
    ("CONTAINER_UPLOAD_INCOMPLETE", shows({"type": "container_upload"}), shows({"type": "container_upload", "file_id": "f"}), {}),
    ("TOOLS_NOT_OBJECTS", {"tools": ["weather"]}, {"tools": []}, {}),
    ("TOOL_INCOMPLETE", named(name="a"), named(name="a", input_schema=SCHEMA), {}),
    ("TOOL_INCOMPLETE", named(input_schema=SCHEMA, type="custom"), named(type="browser_toolset_20260801"), {}),
    ("TOOL_SCHEMA", named(name="a", input_schema={"type": "array"}), named(name="a", input_schema={"type": "object"}), {}),
    ("TOOL_NAME", named(name="a b", input_schema=SCHEMA), named(name="a" * 128, input_schema=SCHEMA), {}),
    ("TOOL_NAME", named(name="a" * 129, input_schema=SCHEMA), named(name="A-b_9", input_schema=SCHEMA), {}),
    ("TOOL_NAME_TWICE", {"tools": [TOOL, TOOL]}, {"tools": [TOOL, {**TOOL, "name": "other"}]}, {}),
    ("TOOL_NAME_WEB_SEARCH", named(**{**SEARCH, "name": "search"}), named(**SEARCH), {}),
    ("TOOL_NAME_WEB_FETCH", named(**{**FETCH, "name": "fetch"}), named(**FETCH), {}),
    ("TOOL_NAME_CODE_EXECUTION", named(type="code_execution_20250825", name="run"), named(type="code_execution_20250825", name="code_execution"), {}),
    ("TOOL_NAME_BASH", named(type="bash_20250124", name="sh"), named(type="bash_20250124", name="bash"), {}),
    ("TOOL_NAME_MEMORY", named(type="memory_20250818", name="mem"), named(type="memory_20250818", name="memory"), {}),
    ("TOOL_DOMAINS", named(**SEARCH, allowed_domains=["a"], blocked_domains=["b"]), named(**SEARCH, allowed_domains=["a"]), {}),
    ("TOO_MANY_STRICT_TOOLS", {"tools": [{**TOOL, "name": f"t{n}", "strict": True} for n in range(21)]},
     {"tools": [{**TOOL, "name": f"t{n}", "strict": n < 20} for n in range(21)]}, {}),
    ("TOO_MANY_DEFERRED_TOOLS", {"tools": [{**TOOL, "name": None, "type": "x", "defer_loading": True}] * 10_001},
     {"tools": [{**TOOL, "name": None, "type": "x", "defer_loading": True}] * 10_000}, {}),
    ("SERVER_TOOL_ENDPOINT", named(**SEARCH), named(**TOOL), at("llamacpp")),
    ("TOOL_CHOICE_TYPE", chooses("required"), chooses("auto"), {}),
    ("TOOL_CHOICE_NAME", chooses("tool"), chooses("tool", name="weather"), {}),
    ("TOOL_CHOICE_NONE", chooses("none", disable_parallel_tool_use=True), chooses("none"), {}),
    ("TOOL_CHOICE_WITHOUT_TOOLS", {"tool_choice": {"type": "any"}}, {"tool_choice": {"type": "auto"}}, {}),
    ("FORCED_TOOL_WITH_THINKING", MANUAL | chooses("any"), MANUAL | chooses("auto"), on(S46)),
    ("FORCED_TOOL_MODEL", chooses("any"), chooses("none"), on(O55)),
    ("FORCED_TOOL_MODEL", chooses("tool", name="weather"), chooses("auto"), on(S55)),
    ("TOOL_CHOICE_OF_LLAMACPP", chooses("none"), chooses("any"), at("llamacpp")),
    ("TOOL_CHOICE_OF_OLLAMA", chooses("any"), chooses("auto"), at("ollama")),
    ("THINKING_TYPE_4_5", thinks("adaptive"), MANUAL, on(H45)),
    ("THINKING_TYPE_4_6", thinks("between_tools"), thinks("adaptive"), on(S46)),
    ("THINKING_TYPE_NO_MANUAL", MANUAL, thinks("disabled"), on(S5)),
    ("THINKING_TYPE_NO_MANUAL", MANUAL, thinks("adaptive"), on("anthropic/claude-opus-4.8", **at("sunra"))),
    ("THINKING_TYPE_ALWAYS_ON", thinks("disabled"), thinks("adaptive"), on(F5)),
    ("THINKING_TYPE_SONNET_5_5", thinks("disabled"), thinks("between_tools"), on(S55)),
    ("THINKING_TYPE_HAIKU_5_5", MANUAL, thinks("disabled"), on(H55)),
    ("THINKING_TYPE_OF_OLLAMA", thinks("adaptive"), thinks("enabled"), at("ollama")),
    ("THINKING_DISABLED_EFFORT", thinks("disabled") | effort("xhigh"), thinks("disabled") | effort("high"), on(O5)),
    ("THINKING_BUDGET_MISSING", thinks("enabled"), MANUAL, on(S46)),
    ("THINKING_BUDGET_TOO_SMALL", thinks("enabled", budget_tokens=1023), MANUAL, on(S46)),
    ("THINKING_BUDGET_TOO_SMALL", thinks("enabled", budget_tokens="2000"), MANUAL, at("sunra")),
    ("THINKING_BUDGET_TOO_LARGE", thinks("enabled", budget_tokens=4096), thinks("enabled", budget_tokens=4095), on(S46)),
    ("THINKING_DISPLAY", thinks("adaptive", display="full"), thinks("adaptive", display="omitted"), on(S46)),
    ("EFFORT_UNKNOWN", effort("huge"), effort("xhigh"), on(O5)),
    ("EFFORT_MODEL", effort("low"), {}, on(S45)),
    ("EFFORT_OPUS_4_5", effort("max"), effort("high"), on(O45)),
    ("EFFORT_4_6", effort("xhigh"), effort("max"), on(O46)),
    ("FORMAT_TYPE", {"output_config": {"format": {"type": "grammar"}}}, forms(SCHEMA), {}),
    ("FORMAT_SCHEMA_MISSING", forms(None), forms(SCHEMA), {}),
    ("FORMAT_SCHEMA", forms({"type": "object", "properties": {}}), forms({**SCHEMA, "properties": {"minimum": {"type": "integer"}}}), {}),
    ("FORMAT_SCHEMA", forms({"type": "array", "items": {"type": "integer", "minimum": 0}}), forms({"type": "array", "minItems": 1}), {}),
    ("FORMAT_SCHEMA", forms({"type": "array", "minItems": 2}), forms({"type": "array", "minItems": 0}), {}),
    ("FORMAT_SCHEMA", forms({"anyOf": [{"type": "string", "pattern": "(?!a)b"}]}), forms({"type": "string", "pattern": "a(?:b)"}), {}),
    ("FORMAT_SCHEMA", forms({"$ref": "https://example.org/s.json"}), forms({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}), {}),
    ("FORMAT_SCHEMA", forms({"$defs": {"a": {"type": "object"}}}), forms(SCHEMA), {}),
    ("FORMAT_WITH_CITATIONS", forms(SCHEMA) | shows(document(TEXT_SOURCE, citations={"enabled": True})),
     forms(SCHEMA) | shows(document(TEXT_SOURCE, citations={"enabled": False})), {}),
    ("CACHE_CONTROL_TYPE", {"cache_control": {"type": "persistent"}}, {"cache_control": CACHED}, {}),
    ("CACHE_CONTROL_TTL", {"cache_control": {**CACHED, "ttl": "2h"}}, {"cache_control": {**CACHED, "ttl": "1h"}}, {}),
    ("CACHE_CONTROL_TTL_OF_BLOCK", shows(text(cache_control={**CACHED, "ttl": 5})), shows(HOUR), {}),
    ("CACHE_CONTROL_TTL_OF_SYSTEM", {"system": [text(cache_control={"ttl": "1d"})]}, {"system": [HOUR]}, {}),
    ("CACHE_CONTROL_ON_THINKING", says(said("user", "a"), assistant({**THINKING, "cache_control": CACHED}), said("user", "b")),
     says(said("user", "a"), assistant(THINKING, MARKED), said("user", "b")), {}),
    ("TOO_MANY_CACHE_BREAKPOINTS", shows(*[MARKED] * 5), shows(*[MARKED] * 4), {}),
    ("TOO_MANY_CACHE_BREAKPOINTS", shows(*[MARKED] * 4) | {"cache_control": CACHED}, shows(*[MARKED] * 3) | {"cache_control": CACHED}, {}),
    ("TOO_MANY_CACHE_BREAKPOINTS", {"system": [MARKED] * 3, "tools": [{**TOOL, "cache_control": CACHED}], **shows(MARKED)},
     {"system": [MARKED] * 3, "tools": [TOOL], **shows(MARKED)}, {}),
    ("CACHE_TTL_ORDER", {"system": [MARKED], **shows(HOUR)}, {"system": [HOUR], **shows(MARKED)}, {}),
    ("CACHE_TTL_ORDER", {"system": [MARKED], "cache_control": {**CACHED, "ttl": "1h"}}, {"system": [HOUR], "cache_control": CACHED}, {}),
    ("BLOCK_OF_VLLM", shows(document(TEXT_SOURCE), text()), shows(URL_IMAGE, text()), at("vllm")),
    ("BLOCK_OF_VLLM", shows(SEARCH_RESULT), shows(text()), at("vllm")),
    ("BLOCK_OF_LLAMACPP", shows(document(TEXT_SOURCE), text()), shows(URL_IMAGE, text()), at("llamacpp")),
    ("BLOCK_OF_LLAMACPP", answers(result(content=[document(TEXT_SOURCE)])), answers(result(content="x")), at("llamacpp")),
    ("BLOCK_OF_OLLAMA", shows(document(TEXT_SOURCE)), shows(text()), at("ollama")),
    ("IMAGE_OF_OLLAMA", shows(URL_IMAGE), shows(image(type="base64", media_type="image/png", data="")), at("ollama")),
    ("BLOCK_OF_DEEPSEEK", shows(SEARCH_RESULT), shows(URL_IMAGE), at("deepseek")),
]  # fmt: skip

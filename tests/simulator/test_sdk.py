"""The official client understands the simulator: plain answers, errors, streams."""

import anthropic
import pytest

from batcher.simulator.server import Simulator
from tests.simulator.asking import TOOL, WEB_SEARCH, asynchronous, body_of


def client_of(simulator, key="any"):
    return anthropic.AsyncAnthropic(api_key=key, base_url=simulator.base_url, max_retries=0)


@asynchronous
async def test_a_plain_answer():
    async with Simulator() as simulator, client_of(simulator) as client:
        message = await client.messages.create(**body_of("hi"))
        (line,) = simulator.bill
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == line.output_tokens
    assert message.usage.cache_creation.ephemeral_5m_input_tokens == 0


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("400", anthropic.BadRequestError),
        ("400_on_hold", anthropic.BadRequestError),
        ("401", anthropic.AuthenticationError),
        ("402", anthropic.PaymentRequiredError),
        ("403", anthropic.PermissionDeniedError),
        ("404", anthropic.NotFoundError),
        ("model_not_found", anthropic.NotFoundError),
        ("408", anthropic.RequestTimeoutError),
        ("409", anthropic.ConflictError),
        ("413", anthropic.RequestTooLargeError),
        ("422", anthropic.UnprocessableEntityError),
        ("429", anthropic.RateLimitError),
        ("429_spend", anthropic.RateLimitError),
        ("500", anthropic.InternalServerError),
        ("500_html", anthropic.InternalServerError),
        ("501", anthropic.APIStatusError),
        ("502_html", anthropic.APIStatusError),
        ("503", anthropic.ServiceUnavailableError),
        ("504", anthropic.DeadlineExceededError),
        ("529", anthropic.OverloadedError),
        ("reset_before", anthropic.APIConnectionError),
        ("close", anthropic.APIConnectionError),
    ],
)
@asynchronous
async def test_an_error_is_the_error_it_should_be(fault, error):
    async with Simulator() as simulator, client_of(simulator) as client:
        with pytest.raises(error):
            await client.messages.create(**body_of(f"[[fault:{fault}]]"))


@asynchronous
async def test_the_wrong_key_is_refused():
    async with Simulator() as simulator, client_of(simulator, "wrong-key") as client:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            await client.messages.create(**body_of("hi"))
    assert caught.value.request_id.startswith("req_")


@pytest.mark.parametrize(
    ("prompt", "fields"),
    [
        ("Why is the sky blue?", {}),
        ("hi", {"max_tokens": 1}),
        ("weather", {"tools": [TOOL]}),
        ("news", {"tools": [WEB_SEARCH]}),
        ("[[pause:0]] news", {"tools": [WEB_SEARCH]}),
        ("[[stop:refusal]]", {}),
        ("[[usage:cache]] hi", {}),
        ("hm", {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        ("[[output:5000]] long \u00e4\u2603\U0001f600", {"max_tokens": 6000}),
    ],
)
@asynchronous
async def test_a_stream_adds_up_to_the_plain_answer(prompt, fields):
    async with Simulator() as simulator, client_of(simulator) as client:
        body = body_of(prompt, **fields)
        async with client.messages.stream(**body) as stream:
            streamed = await stream.get_final_message()
        plain = await client.messages.create(**body)
    changing = {"id"}
    assert streamed.to_dict().keys() == plain.to_dict().keys()
    for name in plain.to_dict().keys() - changing:
        assert streamed.to_dict()[name] == plain.to_dict()[name]


@asynchronous
async def test_a_stream_has_its_events_in_order_with_several_deltas():
    async with Simulator() as simulator, client_of(simulator) as client:
        events = await client.messages.create(**body_of("Why is the sky blue?"), stream=True)
        names = [event.type async for event in events]
    assert names[0] == "message_start"
    assert names[-2:] == ["message_delta", "message_stop"]
    assert names.count("content_block_delta") > 2
    assert names.count("content_block_start") == names.count("content_block_stop") == 1


FORMS = ["crlf", "cr", "comments", "multi_data", "no_ping", "two_deltas", "split=3", "overlap"]


@pytest.mark.parametrize("form", [*FORMS, "no_blank", "unknown_event"])
@asynchronous
async def test_the_client_reads_a_stream_in_many_forms(form):
    body = body_of(f"[[stream:{form}]] hi")
    async with Simulator() as simulator, client_of(simulator) as client:
        async with client.messages.stream(**body) as stream:
            streamed = await stream.get_final_message()
        plain = await client.messages.create(**body)
    assert streamed.content[0].text == plain.content[0].text


@pytest.mark.parametrize(
    ("kind", "text"), [("rate_limit_error", "rate_limit"), ("api_error", "api_error")]
)
@asynchronous
async def test_an_error_in_a_stream_names_its_type(kind, text):
    prompt = f"[[fault:stream_error]] [[stream:at=3,error={kind}]]"
    async with Simulator() as simulator, client_of(simulator) as client:
        with pytest.raises(anthropic.APIStatusError, match=text):
            async with client.messages.stream(**body_of(prompt)) as stream:
                await stream.get_final_message()


@asynchronous
async def test_a_stream_that_fails_in_the_middle_raises():
    async with Simulator() as simulator, client_of(simulator) as client:
        with pytest.raises(anthropic.APIStatusError, match="overloaded"):
            async with client.messages.stream(**body_of("[[fault:stream_error]]")) as stream:
                await stream.get_final_message()


@asynchronous
async def test_models_and_token_counts():
    async with Simulator() as simulator, client_of(simulator) as client:
        models = [model.id async for model in client.models.list(limit=2)]
        messages = body_of("hi")["messages"]
        counted = await client.messages.count_tokens(model=models[0], messages=messages)
    assert len(models) == 5
    assert counted.input_tokens > 0

"""The openai package against fastkv serve: chat, stream, completions, errors.

usage: openai_client.py FASTKV WRITE_TINY_MODEL. Exit code 77 where the package is not there and need not be.
"""
import sys

import serving
from serving import check

try:
    import openai
except ImportError:
    serving.give_up_without("openai")


def ask(url):
    client = openai.OpenAI(base_url=url + "/v1", api_key=serving.KEY, max_retries=0)
    check([m.id for m in client.models.list()] == ["tiny"], "the list of models")

    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}]
    chat = client.chat.completions.create(
        model="tiny", messages=messages, max_tokens=12, logprobs=True, top_logprobs=2,
        extra_body={"fastkv": {"method": "snapkv", "retain_rate": 0.5}})
    check(chat.choices[0].finish_reason in ("stop", "length"), "finish_reason")
    check(chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens, "usage")
    check(chat.model_extra["fastkv"]["retain_rate"] == 0.5, "the method that is reported")
    check(all(len(t.top_logprobs) == 2 for t in chat.choices[0].logprobs.content), "top_logprobs")

    stream = client.chat.completions.create(
        model="tiny", messages=messages, max_tokens=12, stream=True, stream_options={"include_usage": True},
        extra_body={"fastkv": {"method": "snapkv", "retain_rate": 0.5}})
    text, usage = "", None
    for chunk in stream:
        usage = chunk.usage or usage
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    check(text == chat.choices[0].message.content, "the text of a stream")
    check(usage.prompt_tokens == chat.usage.prompt_tokens, "the usage of a stream")

    completion = client.completions.create(model="tiny", prompt=["one text", "another"], max_tokens=4, temperature=0)
    check([c.index for c in completion.choices] == [0, 1], "two prompts")
    scored = client.completions.create(model="tiny", prompt=[20, 30, 40], max_tokens=1, logprobs=1, echo=True)
    check(len(scored.choices[0].logprobs.token_logprobs) >= 3, "logprobs of the prompt")

    for wrong, kind in (({"temperature": -1}, openai.BadRequestError), ({"n": 3}, openai.BadRequestError)):
        try:
            client.chat.completions.create(model="tiny", messages=messages, **wrong)
            sys.exit(f"{wrong} was not refused")
        except kind as error:
            check(error.param == next(iter(wrong)), "the field of an error")
    try:
        openai.OpenAI(base_url=url + "/v1", api_key="no-key", max_retries=0).models.list()
        sys.exit("a wrong key was let in")
    except openai.AuthenticationError:
        pass


def main(fastkv, write_tiny_model):
    with serving.serving(fastkv, write_tiny_model) as url:
        ask(url)


main(*sys.argv[1:])

"""lm-eval's local-completions against fastkv serve, offline: log-likelihoods and generation on two small tasks.

usage: lm_eval_client.py FASTKV WRITE_TINY_MODEL. Exit code 77 where lm_eval (lm-eval[api]==0.4.13) is not there.
"""
import os
import pathlib
import sys
import tempfile

import serving
from serving import check

cache = tempfile.TemporaryDirectory()  # of the data sets, which are made from the files here
os.environ.update(HF_HOME=cache.name, HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OPENAI_API_KEY=serving.KEY,
                  HF_DATASETS_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")
try:
    import lm_eval
    import lm_eval.tasks
except ImportError:
    serving.give_up_without("lm_eval", may_be_missing=True)  # with what it needs, 785 MB


def evaluate(url, **how):
    """The samples of both tasks, as lm-eval keeps them."""
    folder = pathlib.Path(__file__).with_name("lm_eval_tasks")
    os.chdir(folder)  # the tasks name their data from here
    arguments = {"base_url": url + "/v1/completions", "model": "tiny", "auth_token": serving.KEY, "max_retries": 1} | how
    tasks = lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False)
    results = lm_eval.simple_evaluate(model="local-completions", model_args=arguments, task_manager=tasks,
                                      tasks=["fastkv_choice", "fastkv_answer"], bootstrap_iters=0)
    check(0 <= results["results"]["fastkv_choice"]["acc,none"] <= 1, "the share of right choices")
    return results["samples"]


def tokens_of(url, text):
    return serving.post(url, "/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]


def check_choices(url, samples):
    """Each choice's log-likelihood is the sum over its tokens, as a plain request gives them."""
    for sample in samples:
        for (question, choice), [(found, _)] in zip(sample["arguments"], sample["resps"]):
            before, whole = len(tokens_of(url, question)), tokens_of(url, question + choice)
            scored = serving.post(url, "/v1/completions",
                                  {"prompt": whole, "max_tokens": 0, "logprobs": 1, "echo": True})
            logprobs = scored["choices"][0]["logprobs"]["token_logprobs"]
            check(len(logprobs) == len(whole), "one log-probability for each token")
            check(abs(found - sum(logprobs[before:])) < 1e-3 and found < 0, f"the log-likelihood of {choice!r}")


def check_answers(url, samples):
    """Each answer is that of a plain request."""
    for sample in samples:
        [(question, how)] = sample["arguments"]
        plain = serving.post(url, "/v1/completions", {"prompt": tokens_of(url, question), "stop": how["until"],
                                                      "max_tokens": how["max_gen_toks"], "temperature": 0})
        check(sample["resps"] == [[plain["choices"][0]["text"]]], f"the answer to {question!r}")


def main(fastkv, write_tiny_model):
    with serving.serving(fastkv, write_tiny_model) as url:
        for how in ({}, {"batch_size": 4}, {"num_concurrent": 3}):
            samples = evaluate(url, **how)
            check(len(samples["fastkv_choice"]) == 4 and len(samples["fastkv_answer"]) == 3, "the number of samples")
            check_choices(url, samples["fastkv_choice"])
            check_answers(url, samples["fastkv_answer"])


main(*sys.argv[1:])

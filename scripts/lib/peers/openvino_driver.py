"""Times OpenVINO GenAI on a GGUF file: a prompt to its first token, the tokens after it, and the peak of memory.

usage: openvino_driver.py MODEL TOKENS THREADS N_GEN LENGTH...
TOKENS is a JSON array of token ids; a prompt is its first LENGTH ones. Prints a line of JSON for every LENGTH. The model
is loaded, and a short prompt read, before anything counts.

Settings, the best of those tried on SmolLM2-135M (8,000 tokens, 2 threads of a Sapphire Rapids with AMX):
  ATTENTION_BACKEND PA                prompt 6.9 s; SDPA takes 11.3 s and 2.8 times the memory
  KV_CACHE_PRECISION bf16             decoding 31 to 34 tokens/s; the default (u8) 25, f16 33; the prompt takes the same
  DYNAMIC_QUANTIZATION_GROUP_SIZE 0   products in bf16: prompt 6.4 s; 64 and the default (int8) 6.7 s
  PERFORMANCE_HINT LATENCY            no difference, so not given
and without AMX (4,000 tokens, 2 threads of an Emerald Rapids whose AMX is hidden):
  INFERENCE_PRECISION_HINT f32        with products in int8, its default: prompt 4.6 s; bf16 5.8, bf16 without int8 10.1, f32
                                      without int8 6.1, groups of 64 values 17.5 instead of 15 s for 8,000
  KV_CACHE_PRECISION f16              decoding 43 tokens/s; u8 35, f32 about the same; bf16 goes with bf16 only (52)
The whole prompt is one batch, and no prefix is taken from an earlier prompt.
"""

import json
import sys

import numpy
import openvino
import openvino_genai


def reset_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak_bytes():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


def has_amx():
    with open("/proc/cpuinfo") as file:
        return "amx_bf16" in file.read()


def load(model, n_threads, n_ctx):
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching = False
    scheduler.dynamic_split_fuse = False
    scheduler.max_num_batched_tokens = n_ctx
    scheduler.max_num_seqs = 1
    if has_amx():
        settings = {"KV_CACHE_PRECISION": "bf16", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    else:
        settings = {"KV_CACHE_PRECISION": "f16", "INFERENCE_PRECISION_HINT": "f32"}
    return openvino_genai.LLMPipeline(model, "CPU", scheduler_config=scheduler, ATTENTION_BACKEND="PA",
                                      INFERENCE_NUM_THREADS=n_threads, **settings)


def generate(pipeline, tokens, n_gen):
    ids = numpy.array([tokens], dtype=numpy.int64)
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = n_gen + 1  # the first comes out of the prompt
    config.ignore_eos = True
    config.do_sample = False
    inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
    metrics = pipeline.generate(inputs, config).perf_metrics
    return metrics.get_ttft().mean / 1000, metrics.get_tpot().mean / 1000 * n_gen


def main(model, tokens_file, n_threads, n_gen, *lengths):
    with open(tokens_file) as file:
        tokens = json.load(file)
    n_gen, lengths = int(n_gen), [int(length) for length in lengths]
    pipeline = load(model, int(n_threads), max(lengths) + n_gen + 1)
    generate(pipeline, tokens[:64], 1)
    for length in lengths:
        reset_peak()
        prefill, decode = generate(pipeline, tokens[:length], n_gen)
        print(json.dumps({"n_prompt": length, "prefill_seconds": prefill, "decode_seconds": decode,
                          "peak_rss_bytes": peak_bytes()}), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])

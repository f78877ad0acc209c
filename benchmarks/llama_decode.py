"""A decoding Llama of transformers, its attention ours and torch's, in one process and in turns.

    python benchmarks/llama_decode.py [--on-miss tune|nearest|background …] [--budget 60s] [--json FILE]

Random weights: 6 layers of 4096, 32 heads on 8, bf16, one sequence. After a prompt of 512 tokens it decodes 128
greedily, one forward pass per token, with a cache that grows (DynamicCache), so that each step is a shape of its
own. `sdpa` is what transformers takes by default; `cudadent` is registered by hand, as below. Each implementation
decodes once before anything is timed: what is tuned or compiled is then (its time is printed), and the logits of
both are compared, given the same tokens. Then they take turns, --rounds times; a round's ratio is ours over sdpa's
tokens per second, of decoding alone.

What a user gets without a word is --on-miss tune with the default budget and the winners that ship. Several words
are done one after another: "--on-miss nearest tune" says what tuning is worth. On a machine without a GPU: --device cpu --layers 2 --hidden 64 --heads 4 --kv-heads 2 --prompt 24 --tokens 8
"""

import argparse
import json
import statistics
import sys
import time

import torch
import transformers
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.masking_utils import flash_attention_mask

import cudadent

# Of bf16, of the logits of a whole model; a step that misses a key is far beyond it.
TOLERANCE = 0.05


def attention(
    module,
    query,
    key,
    value,
    attention_mask,
    dropout=0.0,
    scaling=None,
    is_causal=None,
    sliding_window=None,
    softcap=None,
    s_aux=None,
    **_,
):
    """What transformers calls: tensors of batch × heads × sequence × head_dim, which are read as they lie."""
    if attention_mask is not None or s_aux is not None or dropout != 0:
        raise NotImplementedError("padding, sinks and dropout are not what this benchmark is about")
    causal = module.is_causal if is_causal is None else is_causal
    out = cudadent.attention(
        query.transpose(1, 2),
        key.transpose(1, 2),  # fewer heads than the query's are shared by neighbours
        value.transpose(1, 2),
        causal=bool(causal) and query.shape[2] > 1,  # a single query stands at the last key and sees all
        scale=scaling,
        window=sliding_window,
        softcap=softcap,
    )
    return out, None


def register():
    AttentionInterface.register("cudadent", attention)
    # None where no token is padded. Without it padded tokens would silently be seen.
    AttentionMaskInterface.register("cudadent", flash_attention_mask)


def make_model(arguments):
    config = transformers.LlamaConfig(
        vocab_size=32000,
        hidden_size=arguments.hidden,
        intermediate_size=7 * arguments.hidden // 2,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.heads,
        num_key_value_heads=arguments.kv_heads,
        max_position_embeddings=8192,
    )
    torch.manual_seed(arguments.seed)
    with torch.device(arguments.device):
        model = transformers.LlamaForCausalLM._from_config(config, dtype=torch.bfloat16)
    return model.eval()


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def decode(model, prompt, count, tokens=None):
    """Seconds of `count` steps after the prompt, the tokens, and their logits.

    Greedily; given `tokens`, those are fed whatever the logits say, so that two runs can be compared.
    """
    cache = DynamicCache(config=model.config)
    logits = [model(prompt, past_key_values=cache, use_cache=True, logits_to_keep=1).logits]
    chosen = []
    synchronize(prompt.device.type)
    start = time.perf_counter()
    for step in range(count):
        chosen.append(logits[-1].argmax(-1) if tokens is None else tokens[:, step : step + 1])
        logits.append(model(chosen[-1], past_key_values=cache, use_cache=True).logits)
    synchronize(prompt.device.type)
    return time.perf_counter() - start, torch.cat(chosen, 1), torch.cat(logits, 1)


def difference(ours, theirs):
    """Relative, of the worst step."""
    ours, theirs = ours.double(), theirs.double()
    return ((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)).max().item()


def explain(arguments, length):
    """What a step with so many keys launches."""
    head_dim = arguments.hidden // arguments.heads

    def of(heads, tokens):
        shape = (1, heads, tokens, head_dim)
        empty = torch.zeros(shape, device=arguments.device, dtype=torch.bfloat16)
        return empty.transpose(1, 2)

    known = cudadent.attention.prepare(
        of(arguments.heads, 1), of(arguments.kv_heads, length), of(arguments.kv_heads, length)
    )
    winner = known.winner
    return f"{known.problem}: {winner.template} {winner.configuration}, {winner.provenance}"


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    for name, default in [("layers", 6), ("hidden", 4096), ("heads", 32), ("kv-heads", 8)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--prompt", type=int, default=512, help="tokens before the first that is decoded")
    parser.add_argument("--tokens", type=int, default=128, help="to decode")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--on-miss", default=["tune"], nargs="+", choices=["tune", "nearest", "background"]
    )
    parser.add_argument("--budget", help="of each problem that is tuned; default: cudadent's")
    parser.add_argument("--json", help="write the figures here, too")
    return parser.parse_args()


def compare(arguments, model, prompt, on_miss):
    """Checks and times the two implementations, with one policy for what is not known yet."""
    cudadent.set_default_options(on_miss=on_miss, budget=arguments.budget)

    def run(implementation, tokens=None):
        model.set_attn_implementation(implementation)
        return decode(model, prompt, arguments.tokens, tokens)

    budget = f" with a budget of {arguments.budget}" if arguments.budget else ""
    print(f"on_miss={on_miss}{budget if on_miss != 'nearest' else ''}")
    _, tokens, theirs = run("sdpa")
    start = time.perf_counter()
    _, _, ours = run("cudadent", tokens)
    result = {
        "on_miss": on_miss,
        "budget": arguments.budget,
        "first_seconds": time.perf_counter() - start,
        "difference": difference(ours, theirs),
        "same_choice": (ours.argmax(-1) == theirs.argmax(-1)).double().mean().item(),
        "rounds": [],
    }
    print(
        f"  the first run took {result['first_seconds']:.1f} s; its logits are "
        f"{result['difference']:.2g} from sdpa's, and choose the same token in "
        f"{result['same_choice']:.0%} of the steps"
    )
    del ours, theirs
    for number in range(arguments.rounds):
        speeds = {
            implementation: arguments.tokens / run(implementation)[0]
            for implementation in ("sdpa", "cudadent")
        }
        speeds["ratio"] = speeds["cudadent"] / speeds["sdpa"]
        result["rounds"].append(speeds)
        print(
            f"  round {number + 1}: sdpa {speeds['sdpa']:.1f} tokens/s, cudadent "
            f"{speeds['cudadent']:.1f} tokens/s, ratio {speeds['ratio']:.3f}",
            flush=True,
        )
    ratios = [speeds["ratio"] for speeds in result["rounds"]]
    result["ratio"] = statistics.median(ratios)
    result["launched"] = explain(arguments, arguments.prompt + arguments.tokens)
    print(f"  ratio: median {result['ratio']:.3f}, minimum {min(ratios):.3f}")
    print(f"  the last step launched {result['launched']}")
    return result


def main():
    arguments = parse()
    register()
    model = make_model(arguments)
    prompt = torch.randint(0, model.config.vocab_size, (1, arguments.prompt), device=arguments.device)
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "the host"
    print(
        f"{name}, torch {torch.__version__}, transformers {transformers.__version__}, cudadent "
        f"{cudadent.__version__}\n{arguments.layers} layers of {arguments.hidden}, {arguments.heads} heads "
        f"on {arguments.kv_heads}, {arguments.prompt} tokens, then {arguments.tokens}"
    )
    with torch.inference_mode():
        results = [compare(arguments, model, prompt, on_miss) for on_miss in arguments.on_miss]
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"device": name, "torch": torch.__version__, "results": results}, file, indent=1)
    worst = max(result["difference"] for result in results)
    if not worst < TOLERANCE:
        sys.exit(f"the logits differ by {worst:.2g}, more than {TOLERANCE}")


if __name__ == "__main__":
    main()

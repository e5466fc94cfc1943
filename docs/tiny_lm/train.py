"""Train the language model that sksae carries.

The text is what every installation of sksae has on disk: the docstrings of numpy, scipy,
scikit-learn, torch, transformers and the standard library, the help topics of ``pydoc_data``, and
the sources of the same packages without their docstrings. One module in ten is held out wholly,
by a hash of its name, and training documents that share half of their words with a held-out
document are dropped. The architecture is Llama with tied embeddings; the matrices inside the
blocks are trained with Muon, everything else with AdamW, in bfloat16 autocast.

    python docs/tiny_lm/train.py OUTPUT_FOLDER [--minutes 36] [--steps 3600] [--threads 2]

The learning rate falls to zero over `steps`, or over `minutes` where the machine is too slow for
all steps. A training that was interrupted goes on from its last checkpoint, 100 steps apart.

Measured on 2026-11-22 on one thread of an AMD EPYC shared with other work (--minutes 64 --threads
1), torch 2.13.0, transformers 5.23.0 and Python 3.11.7: 2,637 steps in 64 minutes, held-out loss
2.58 nats a token (1.19 bits a byte), 2.00 on the training docstrings.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from training_text import (
    CONTEXT,
    SPECIAL_TOKENS,
    VOCABULARY,
    encode,
    read_text,
    train_tokenizer,
)
from transformers import LlamaConfig, LlamaForCausalLM

SEED = 20261122
BATCH_ROWS = 32
PEAK_RATE = 4e-3
WARMUP = 0.02
CODE_SHARE = 0.2  # of the rows, until the last phase, which is docstrings only
LAST_PHASE = 0.7
CHECKPOINT = "checkpoint.pt"


def endless_rows(documents, generator):
    """Rows of one token more than the context, shuffled and cut anew in each pass."""
    while True:
        order = generator.permutation(len(documents))
        stream = np.concatenate([documents[i] for i in order])
        stream = stream[generator.integers(CONTEXT) :]
        n_rows = len(stream) // (CONTEXT + 1)
        rows = stream[: n_rows * (CONTEXT + 1)].reshape(n_rows, -1)
        yield from rows[generator.permutation(n_rows)]


def draw_batch(docstrings, code, share, generator):
    """One batch of rows as a tensor, a random part of them code."""
    from_code = generator.random(BATCH_ROWS) < share
    rows = [next(code) if chosen else next(docstrings) for chosen in from_code]
    return torch.from_numpy(np.stack(rows).astype(np.int64))


def build_model():
    """The untrained model."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    return LlamaForCausalLM(config)


def build_optimisers(model):
    """Muon for the matrices inside the blocks, AdamW for the embedding and the norms."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inside]
    return [
        torch.optim.Muon(matrices, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def build_loss(model, device):
    """Compiled mean loss in nats of a batch of rows."""

    def loss(rows):
        with torch.autocast(device, torch.bfloat16):
            hidden = model.model(input_ids=rows[:, :-1], use_cache=False).last_hidden_state
            logits = model.lm_head(hidden)
        targets = rows[:, 1:].reshape(-1)
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets)

    return torch.compile(loss)


def rate_at(progress):
    """Learning rate: short warm-up, then a straight line to zero."""
    return PEAK_RATE * min(progress / WARMUP, (1 - progress) / (1 - WARMUP))


def train(model, loss, docstrings, code, held_out_rows, options):
    """Optimise the model in place, from the last checkpoint on; returns what happened."""
    optimisers = build_optimisers(model)
    state = restore(options.folder, model, optimisers)
    generator = np.random.default_rng([SEED, state["step"]])
    docstrings, code = endless_rows(docstrings, generator), endless_rows(code, generator)
    running, start = [], time.perf_counter() - 60 * state["minutes"]
    while (progress := progress_of(state, options)) < 1:
        share = CODE_SHARE if progress < LAST_PHASE else 0.0
        rows = draw_batch(docstrings, code, share, generator).to(options.device)
        running.append(take_step(model, loss(rows), optimisers, rate_at(progress)))
        state["step"] += 1
        state["minutes"] = (time.perf_counter() - start) / 60
        if state["step"] % 100 == 0:
            held_out = mean_loss(loss, held_out_rows[:128].to(options.device))
            entry = [state["step"], state["minutes"], np.mean(running[-100:]), held_out]
            state["log"].append([round(float(x), 3) for x in entry])
            print(*state["log"][-1], flush=True)
            save_checkpoint(options.folder, model, optimisers, state)
    return state


def progress_of(state, options):
    """Share of the training that is done, by steps or by time, whichever is further."""
    return max(state["step"] / options.steps, state["minutes"] / options.minutes)


def take_step(model, value, optimisers, rate):
    """One step of all optimisers down the gradient of the loss `value`; returns its number."""
    value.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        optimiser.zero_grad()
    return value.item()


def save_checkpoint(folder, model, optimisers, state):
    """Everything that `restore` needs to go on, replaced in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [model.state_dict(), [optimiser.state_dict() for optimiser in optimisers], state]
    torch.save(parts, folder / "checkpoint.new")
    (folder / "checkpoint.new").replace(folder / CHECKPOINT)


def restore(folder, model, optimisers):
    """State of the training from the checkpoint in the folder, or that of a beginning."""
    if not (folder / CHECKPOINT).exists():
        return {"step": 0, "minutes": 0.0, "log": []}
    weights, of_optimisers, state = torch.load(folder / CHECKPOINT)
    model.load_state_dict(weights)
    for optimiser, saved in zip(optimisers, of_optimisers, strict=True):
        optimiser.load_state_dict(saved)
    return state


@torch.no_grad()
def mean_loss(loss, rows):
    """Mean loss in nats a token over full batches of rows."""
    batches = rows[: len(rows) // BATCH_ROWS * BATCH_ROWS].split(BATCH_ROWS)
    return float(np.mean([loss(batch).item() for batch in batches]))


def fixed_rows(documents, limit=None):
    """Documents one after the other, cut into rows once."""
    stream = np.concatenate(documents)[:limit]
    n_rows = len(stream) // (CONTEXT + 1)
    rows = stream[: n_rows * (CONTEXT + 1)].reshape(n_rows, -1)
    return torch.from_numpy(rows.astype(np.int64))


def sample(model, tokenizer, prompt, seed):
    """A continuation of the prompt at temperature 0.7."""
    torch.manual_seed(seed)
    encoded = tokenizer(prompt, return_tensors="pt").to(model.device)
    length = CONTEXT - encoded["input_ids"].shape[1]
    tokens = model.generate(
        encoded["input_ids"],
        attention_mask=encoded["attention_mask"],
        max_new_tokens=length,
        do_sample=True,
        temperature=0.7,
        top_k=0,
    )
    return tokenizer.decode(tokens[0], skip_special_tokens=True)


def export(model, tokenizer, folder):
    """Weights in fp16, configuration and tokenizer as files that `from_pretrained` reads."""
    tensors = {key: x.half().cpu().contiguous() for key, x in model.state_dict().items()}
    del tensors["lm_head.weight"]  # tied to the embedding
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.architectures = ["LlamaForCausalLM"]
    model.config.dtype = torch.float32  # what it was trained in, and what loading gives
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        **SPECIAL_TOKENS,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))


def parse_options():
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=36.0)
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    return parser.parse_args()


def main():
    """Text, tokenizer, training, evaluation, samples, files."""
    options = parse_options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    start = time.perf_counter()
    docstrings, held_out, code = ([text for _, text in part] for part in read_text())
    random.Random(SEED).shuffle(code)
    tokenizer = train_tokenizer(docstrings + code[:500])
    tokens = [encode(tokenizer, texts) for texts in (docstrings, held_out, code)]
    n_bytes = sum(len(text.encode()) for text in held_out)
    n_tokens = [sum(map(len, part)) for part in tokens]
    print(f"tokens: {n_tokens}; text ready after {time.perf_counter() - start:.0f} s", flush=True)

    model = build_model().to(options.device)
    loss = build_loss(model, options.device)
    held_out_rows = fixed_rows(tokens[1])
    result = train(model, loss, tokens[0], tokens[2], held_out_rows, options)
    for name, rows in {"held_out": held_out_rows, "train": fixed_rows(tokens[0], 400_000)}.items():
        result[f"{name}_loss"] = mean_loss(loss, rows.to(options.device))
    tokens_per_byte = n_tokens[1] / n_bytes
    result["held_out_bits_per_byte"] = result["held_out_loss"] * tokens_per_byte / math.log(2)
    result["tokens"] = dict(zip(["docstrings", "held_out", "code"], n_tokens, strict=True))
    export(model, tokenizer, options.folder)
    (options.folder / CHECKPOINT).unlink(missing_ok=True)
    Path(__file__).with_name("training.json").write_text(json.dumps(result, indent=1))
    print({key: x for key, x in result.items() if key != "log"})
    model.eval()
    for seed, prompt in enumerate(["", "", "Compute the", "Return the", "class"]):
        print(f"--- sample {seed}\n{sample(model, tokenizer, prompt, seed)}")


if __name__ == "__main__":
    main()

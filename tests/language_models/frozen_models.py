"""Models of three families written out, with attention patterns and norms as in a prompt."""

import torch


class WrittenOut:
    """A model of the three families written out, its patterns and norms as in the prompt."""

    def __init__(self, kind, model, prompt):
        self.kind, self.base = kind, model.base_model
        self.head = model.lm_head.weight.detach()
        model.set_attn_implementation("eager")
        norms = {}

        def keep(module, args, output):
            norms[module] = args[0].detach(), output.detach()

        modules = [x for x in self.base.modules() if "Norm" in type(x).__name__]
        handles = [module.register_forward_hook(keep) for module in modules]
        ids = torch.tensor([prompt])
        with torch.no_grad():
            outputs = model(ids, output_attentions=True, use_cache=False)
            self.embeddings = self.base.get_input_embeddings()(ids)[0]
        for handle in handles:
            handle.remove()
        self.norms = norms
        self.patterns = [pattern[0] for pattern in outputs.attentions]  # (n_heads, T, T)

    def norm(self, module, x):
        """The norm with its denominators, from what it made of the prompt."""
        clean, output = self.norms[module]
        bias = getattr(module, "bias", None)
        bias = 0.0 if bias is None else bias.detach()
        centred = isinstance(module, torch.nn.LayerNorm)
        clean = clean - clean.mean(-1, keepdim=True) if centred else clean
        x = x - x.mean(-1, keepdim=True) if centred else x
        return x * ((output - bias) / clean)[0] + bias

    def attention(self, i, x):
        block = self.base.h[i] if self.kind == "gpt2" else self.base.layers[i]
        pattern = self.patterns[i]
        if self.kind == "gpt2":
            values = block.attn.c_attn(self.norm(block.ln_1, x))[:, 2 * x.shape[1] :]
        else:
            values = block.self_attn.v_proj(self.norm(block.input_layernorm, x))
        values = values.unflatten(1, (-1, 8)).transpose(0, 1)  # heads of width 8
        values = values.repeat_interleave(len(pattern) // len(values), 0)
        mixed = (pattern @ values).transpose(0, 1).flatten(1)
        if self.kind == "gpt2":
            return block.attn.c_proj(mixed)
        out = block.self_attn.o_proj(mixed)
        if self.kind == "gemma2":
            out = self.norm(block.post_attention_layernorm, out)
        return out

    def read(self, i, x):
        """What the transcoder reads of the stream between attention and MLP."""
        if self.kind == "gpt2":
            return self.norm(self.base.h[i].ln_2, x)
        if self.kind == "gemma2":
            return self.norm(self.base.layers[i].pre_feedforward_layernorm, x)
        return x

    def run(self, embeddings, written, skips):
        """Rows that transcoders read and the normed final stream."""
        x, reads = embeddings, []
        if self.kind == "gpt2":
            x = x + self.base.wpe.weight[: len(x)].detach()
        for i in range(len(self.patterns)):
            x = x + self.attention(i, x)
            reads.append(self.read(i, x))
            x = x + written[i] + (0 if skips[i] is None else reads[i] @ skips[i].T)
        return reads, self.norm(self.base.ln_f if self.kind == "gpt2" else self.base.norm, x)

    def mlp_outputs(self):
        """What the MLPs add in the prompt, found layer by layer."""
        n_layers = len(self.patterns)
        written = [torch.zeros_like(self.embeddings)] * n_layers
        for i in range(len(self.patterns)):
            read = self.run(self.embeddings, written, [None] * n_layers)[0][i]
            block = self.base.h[i] if self.kind == "gpt2" else self.base.layers[i]
            if self.kind == "llama":
                read = block.post_attention_layernorm(read)
            out = block.mlp(read)
            if self.kind == "gemma2":
                out = block.post_feedforward_layernorm(out)
            written[i] = out.detach()
        return written

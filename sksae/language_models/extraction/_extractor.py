"""ActivationExtractor: the transformer from texts to activations of one or several models."""

import copy
from collections.abc import Mapping
from numbers import Integral

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state

from sksae._arrays import objects
from sksae._params import Bool, Float, Instance, Int, Option, Verbosity, check_option
from sksae._reprs import ShortRepr
from sksae.language_models.extraction._activation_reader import (
    ActivationReader,
    Layers,
    Sites,
    check_parameters,
    is_several,
)
from sksae.language_models.extraction._forward_passes import POOLINGS
from sksae.language_models.extraction._input_items import check_container, check_items
from sksae.language_models.extraction._published_sites import (
    extractor_params,
    source_of,
    with_target_site,
)
from sksae.language_models.extraction._store import store
from sksae.language_models.extraction._window_sources import TOKENIZER
from sksae.language_models.model import Loadable, share_loaded, state_by_name

_BUFFER_CHUNKS = 4  # chunks in the buffer of `stream`


class ActivationExtractor(ShortRepr, TransformerMixin, BaseEstimator):
    """Activations of a language model, one row per token or one row per text.

    X is an iterable of texts (str), of token ids, of conversations (lists of dict with "role" and
    "content", written by the tokenizer's template), of mappings with one of the keys "messages",
    "input_ids", "text" and "image", such as the rows of a Hugging Face data set, or, for a model
    that reads pixels, of images: PIL images, uint8 arrays of shape (height, width, channels), or
    float arrays of shape (channels, height, width), which are passed on as they are.

    The model runs up to the hooked module and no further. A text longer than the model's context
    is cut into consecutive windows; the model reads each window by itself.
    Padding never becomes a row: token ids that come with an ``"attention_mask"`` are cut down to
    the tokens whose mask is 1, which must be consecutive; token ids without one are all read. Of
    an image the patches are the tokens.

    Parameters
    ----------
    model : str, Path or PreTrainedModel
        The name of a model on the Hugging Face hub, the path of a folder with one, or a model.
        A name or a path is loaded when it is first needed, without a head, and shared by all
        clones. A model object is used as it is.
    layer : int or list of int, default=None
        The block, counted from 0, or from the end if negative. None with ``site="embeddings"``
        and with a module path. With a list, or a list of sites, one pass reads each site of each
        layer.
    site : str or list of str and (int, str), default="resid_post"
        Where in the block:

        - ``"resid_pre"``: the residual stream that enters the block;
        - ``"resid_mid"``: the stream between attention and MLP, if the one comes after the other;
        - ``"resid_post"``: the stream that leaves the block;
        - ``"attn_out"``, ``"mlp_out"``: what attention and MLP add to the stream;
        - ``"embeddings"``: what enters the first block, positions and all;
        - any other string is the path of a module whose output is wanted (or its input, as in
          ``"h.3.attn.c_proj.input"``), from ``model.named_modules()``, as ``"h.3.mlp.act"``; of a
          norm, ``"h.3.ln_2.normalized"`` is what it makes before it multiplies by its weights;
        - a name of TransformerLens, as ``"blocks.3.hook_resid_post"``, has layer and site.

        With a list rows have a block of columns per site, side by side, layer by layer. Without
        `layer` each site has its own, as in ``["0.resid_mid", (2, "mlp_out"), "embeddings"]``.
    tokenizer : str, Path or tokenizer, default=None
        None takes the one that goes with the model's name or path. Models of images need none.
    image_processor : str, Path or image processor, default=None
        None takes the one that goes with the model's name or path, if the images need it.
    pooling : {None, "mean", "max", "first", "last"}, default=None
        None gives one row per token; the others one row per text, pooled over the tokens that would
        have become rows. Only these fit into a Pipeline with a target.
    max_length : int, default=None
        The tokens of a window at most, special ones included. None is the model's limit.
    include_special_tokens : bool, default=False
        Whether special tokens, such as BERT's ``[CLS]``, become rows.
    drop_first_position : bool, default=True
        Whether to leave out the first position of each window: its activations are outliers that
        carry little of the text. If a special token stands there, nothing else is left out.
    max_norm_ratio : float, default=None
        Tokens whose norm is more than so many times the median norm of the tokens of their window
        become no rows. None leaves none out.
    prepend_bos : bool, default=False
        Whether to put the tokenizer's BOS in front of each window, if it does not do so itself.
        Special tokens that a text begins or ends with, because it was rendered before, are not
        added a second time.
    position_ids : bool, default=False
        Whether to tell the model the positions.
    batch_tokens : int, default=4096
        The most tokens in one forward pass, padding included.
    device : str, default="auto"
        Where to run a model given by name: ``"auto"`` is a GPU if there is one.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        The precision of a model given by name; ``"auto"`` is the checkpoint's. Rows are float32.
    verbose : int or bool, default=0
        Whether to show progress.

    See Also
    --------
    TokenTable : What `extract` says about each row.
    SAEVectorizer : Sparse features of texts.
    load_activations : Opens what `to_memmap` wrote.

    Notes
    -----
    Neither `clone` nor a search copies the model; over models, search by name. A pickle, and what
    joblib sends to other processes, has its name, from which it is loaded again. With it goes a
    checksum of all parameters and buffers, of the configuration and of the modules (0.1 seconds
    for a hundred million parameters): a model that was changed after loading is an error in the
    other process, and hooks of others and weights that are not in memory are an error at once. A
    model that `from_pretrained` did not make is pickled whole.

    The rows of a text do not depend on other texts, up to rounding. Where padding reaches the
    tokens of a model, or sequences reach each other, only windows of one length, or none, share a
    pass: a few short passes tell, the first time that a site of a model is read.

    Examples
    --------
    >>> from sksae.datasets import TINY_LM_PATH
    >>> from sksae.language_models import ActivationExtractor
    >>> extractor = ActivationExtractor(TINY_LM_PATH, layer=2)
    >>> rows, tokens = extractor.extract(["sparse features", "희소 특징"])
    >>> rows.shape
    (15, 192)
    >>> tokens.string[:6].tolist()
    ['sparse', ' features', '희', '희', '희', '소']
    >>> extractor.set_params(pooling="mean").transform(["sparse features", "희소 특징"]).shape
    (2, 192)

    Several sites in one pass:

    >>> extractor = ActivationExtractor(TINY_LM_PATH, layer=[0, 2], site=["resid_mid", "mlp_out"])
    >>> rows = extractor.transform(["sparse features"])
    >>> {site: block.shape for site, block in extractor.split(rows).items()}
    {'0.resid_mid': (2, 192), '0.mlp_out': (2, 192), '2.resid_mid': (2, 192), '2.mlp_out': (2, 192)}
    """

    _param_rules = {
        "model": Loadable("get_input_embeddings", "Hugging Face model"),
        "layer": Layers(),
        "site": Sites(),
        "tokenizer": TOKENIZER,
        "image_processor": Loadable("preprocess", "image processor", none=True),
        "pooling": Option(None, *POOLINGS),
        "max_length": Int(1, none=True),
        "include_special_tokens": Bool(),
        "drop_first_position": Bool(),
        "max_norm_ratio": Float(1, open_="low", none=True),
        "prepend_bos": Bool(),
        "position_ids": Bool(),
        "batch_tokens": Int(1),
        "device": Instance(str, torch.device, description="'auto' or the name of a device"),
        "dtype": Option("auto", "float32", "bfloat16", "float16"),
        "verbose": Verbosity(),
    }

    def __init__(
        self,
        model,
        layer=None,
        site="resid_post",
        *,
        tokenizer=None,
        image_processor=None,
        pooling=None,
        max_length=None,
        include_special_tokens=False,
        drop_first_position=True,
        max_norm_ratio=None,
        prepend_bos=False,
        position_ids=False,
        batch_tokens=4096,
        device="auto",
        dtype="auto",
        verbose=0,
    ):
        self.model = model
        self.layer = layer
        self.site = site
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.pooling = pooling
        self.max_length = max_length
        self.include_special_tokens = include_special_tokens
        self.drop_first_position = drop_first_position
        self.max_norm_ratio = max_norm_ratio
        self.prepend_bos = prepend_bos
        self.position_ids = position_ids
        self.batch_tokens = batch_tokens
        self.device = device
        self.dtype = dtype
        self.verbose = verbose

    @classmethod
    def for_sae(cls, sae, *, with_target=False, **params):
        """Return the extractor of the activations that an autoencoder is for.

        Model, layer, site and choice of tokens come from ``source_``, which an autoencoder has that
        was read from a file or the hub, or saved with its extractor.

        Parameters
        ----------
        sae : estimator
            A fitted autoencoder, a pipeline that ends with one, a search over one, or a
            `FrozenEstimator` of any of these.
        with_target : bool, default=False
            Whether to read both sites of a transcoder that was read from a file, or saved with the
            extractor of its rows and targets: ``site`` is a list of what it encodes and what it
            predicts, blocks that `split` takes apart. False reads what it encodes.
        **params
            Parameters of the extractor; they win over what the autoencoder says.

        Returns
        -------
        extractor : ActivationExtractor
            The extractor; nothing is loaded yet.

        Raises
        ------
        ValueError
            If the model or a site is not known.

        See Also
        --------
        sksae.formats.from_pretrained : Published autoencoders.

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import sksae
        >>> from sksae.datasets import TINY_LM_PATH, load_corpus
        >>> extractor = sksae.ActivationExtractor(TINY_LM_PATH, layer=2, site="mlp_out")
        >>> rows = extractor.transform(load_corpus().data[:20])
        >>> sae = sksae.TopKSAE(64, k=4, max_iter=2, random_state=0).fit(rows)
        >>> with TemporaryDirectory() as folder:
        ...     path = sae.save(Path(folder) / "sae.safetensors", extractor=extractor)
        ...     again = sksae.load(path)
        >>> twin = sksae.ActivationExtractor.for_sae(again)
        >>> twin.layer, twin.site
        (2, 'mlp_out')
        """
        check_option("with_target", with_target, Bool())
        source = source_of(sae)
        resolved = extractor_params(source, cls._get_param_names(), params)
        if with_target:
            resolved = with_target_site(source, resolved, params)
        return cls(**resolved)

    def fit(self, X, y=None):
        """Check the parameters; nothing is learnt or loaded, and `transform` works without it.

        Parameters
        ----------
        X : iterable
            The texts, or what else the model reads.
        y : Ignored
            Present by convention.

        Returns
        -------
        self : ActivationExtractor
            The extractor itself.

        Raises
        ------
        ValueError
            If a parameter or `X` is invalid.
        """
        check_parameters(self)
        check_container(X)
        return self

    def transform(self, X):
        """Return the activations of texts.

        Parameters
        ----------
        X : iterable
            The texts, or what else the model reads.

        Returns
        -------
        rows : ndarray of shape (n_tokens, n_features) or (n_texts, n_features), dtype=float32
            One row per token, text after text, or one row per text if `pooling` is set.

        Raises
        ------
        ValueError
            If `X` is invalid, the model has no such layer or site, the module runs
            several times in a pass or has not one row per token, or a text without tokens is to be
            pooled.
        """
        reader, items = ActivationReader(self), check_items(X)
        if self.pooling is None:
            return reader.all_rows(*items, table=False).rows
        return reader.text_rows(*items, self.pooling)

    def extract(self, X):
        """Return one row per token, whatever `pooling` is, and which token each row is.

        Parameters
        ----------
        X : iterable
            The texts, or what else the model reads.

        Returns
        -------
        rows : ndarray of shape (n_tokens, n_features), dtype=float32
            The activations, text after text.
        tokens : TokenTable of length n_tokens
            Text, position, id, string and character span of each row.

        Raises
        ------
        ValueError
            As for `transform`.
        """
        chunk = ActivationReader(self).all_rows(*check_items(X), table=True)
        return chunk.rows, chunk.tokens

    def extract_chunks(self, X):
        """Return the rows and tables of `extract`, some texts at a time.

        Parameters
        ----------
        X : iterable
            The texts, or what else the model reads, read as far as needed.

        Returns
        -------
        chunks : iterator of (first, rows, tokens)
            About 65,000 tokens each, whole texts; `first` is the index in X of the first of them,
            from which `tokens.text` counts.
        """
        return ((c.first, c.rows, c.tokens) for c in ActivationReader(self).chunks(X, table=True))

    def split(self, rows):
        """Return the blocks of rows that several sites have side by side.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_features)
            Rows of this extractor, as from `transform` or `stream`.

        Returns
        -------
        blocks : dict of str to ndarray of shape (n_rows, width)
            Views of the rows by the names of the sites, in order.

        Raises
        ------
        ValueError
            If the rows are not as wide as those of this extractor.
        """
        reader = ActivationReader(self)
        widths, shape = reader.widths(), np.shape(rows)
        if shape[1:] != (sum(widths),):
            raise ValueError(
                f"Rows of this extractor have {sum(widths)} columns. Got shape {shape}."
            )
        blocks = np.split(rows, np.cumsum(widths)[:-1], axis=1)  # (n_rows, width) per site
        return dict(zip(reader.points, blocks, strict=True))

    # Not scikit-learn's mixin: `dir` and the HTML representation look at its property of the width,
    # and would load the model for it.
    def get_feature_names_out(self, input_features=None):
        """Return the names of the columns of rows.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of shape (n_features,), dtype=object
            As ``"activationextractor5"``; of several sites as ``"2.mlp_out_5"``.
        """
        reader = ActivationReader(self)
        if not is_several(self):
            prefix = type(self).__name__.lower()
            return objects([f"{prefix}{i}" for i in range(reader.width())])
        pairs = zip(reader.points, reader.widths(), strict=True)
        return objects([f"{label}_{i}" for label, width in pairs for i in range(width)])

    def stream(self, X, *, chunk_rows=16384, buffer_rows=None, random_state=None):
        """Return the rows of the tokens in random order, chunk by chunk, for `partial_fit`.

        Parameters
        ----------
        X : iterable
            The texts, or what else the model reads, read as far as needed.
        chunk_rows : int, default=16384
            Rows per chunk; the last chunk has the remaining rows.
        buffer_rows : int, default=None
            Rows that wait to be drawn, which is how far texts mix. None is four chunks.
        random_state : int, RandomState or None, default=None
            Seed of the order.

        Returns
        -------
        chunks : iterator of ndarray of shape (chunk_rows, n_features), dtype=float32
            Each row of X comes once.

        Raises
        ------
        ValueError
            As for `transform`, or if the buffer is smaller than a chunk.
        """
        buffer_rows = _buffer_size(chunk_rows, buffer_rows)
        blocks = (chunk.rows for chunk in ActivationReader(self).chunks(X, table=False))
        return _shuffled(blocks, chunk_rows, buffer_rows, random_state)

    def to_memmap(self, X, path, dtype="float16"):
        """Write one row per token to a folder and open it; more than fits in memory is fine.

        A crash at any moment costs at most what was added last, about 65,000 tokens: call it again
        with the same texts and parameters, and it continues. A complete folder is opened and never
        changed.

        Processes of an initialised `torch.distributed` share the texts: each calls this with all of
        them and with the same folder, and all return the same rows when the last is done.

        Parameters
        ----------
        X : iterable
            The texts, or what else the model reads; to continue, all of them again.
        path : str or Path
            The folder.
        dtype : {"float16", "float32"}, default="float16"
            The precision of the file.

        Returns
        -------
        rows : memmap of shape (n_tokens, n_features), or dict of str to memmap
            The activations, read from the disk as they are used. Of several sites each has a file
            of its own, and this is a dict from the name of each to its rows.
        tokens : TokenTable of length n_tokens
            Text, position, id, string and character span of each row.

        Raises
        ------
        ValueError
            If the folder was begun with other texts, parameters or another model, a file in it is
            damaged, or an activation is beyond float16 or not finite.
        RuntimeError
            If another process is writing to the folder.
        """
        return store(ActivationReader(self), X, path, dtype)

    def __sklearn_clone__(self):
        return self._twin()

    def __copy__(self):
        return self._twin()

    def __deepcopy__(self, memo):
        return self._twin()

    def __getstate__(self):
        return state_by_name(super().__getstate__())

    def _twin(self):
        """Return an extractor with the same parameters, none of them copied: one may be a model."""
        twin = type(self)(**self.get_params(deep=False))
        for name in ("_sklearn_output_config", "_metadata_request", "_weights"):
            if name in vars(self):
                setattr(twin, name, copy.deepcopy(getattr(self, name)))
        share_loaded(self, twin)
        return twin

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags


def _buffer_size(chunk_rows, buffer_rows):
    """Return the number of rows in the buffer, or raise a ValueError."""
    if buffer_rows is None:
        buffer_rows = _BUFFER_CHUNKS * chunk_rows if _is_size(chunk_rows) else chunk_rows
    for name, value in (("chunk_rows", chunk_rows), ("buffer_rows", buffer_rows)):
        if not _is_size(value):
            raise ValueError(f"{name} must be an int >= 1. Got {value!r} instead.")
    if buffer_rows < chunk_rows:
        raise ValueError(f"buffer_rows={buffer_rows} must be at least chunk_rows={chunk_rows}.")
    return int(buffer_rows)


def _shuffled(blocks, chunk_rows, buffer_rows, random_state):
    """Return an iterator of arrays of `chunk_rows` rows, the last one of the remaining rows.

    Each row of `blocks`, arrays of any size, appears once. It is drawn from the `buffer_rows` rows
    that were waiting at the time.
    """
    return _drawn_chunks(blocks, chunk_rows, buffer_rows, check_random_state(random_state))


def _drawn_chunks(blocks, chunk_rows, buffer_rows, rng):
    """Fill a buffer, draw a chunk from it, and fill it again."""
    buffer, n = None, 0
    for rows in blocks:
        start = 0
        while start < len(rows):
            if buffer is None:
                buffer = np.empty((buffer_rows, rows.shape[1]), dtype=rows.dtype)
            added = rows[start : start + buffer_rows - n]  # as many rows as fit
            buffer[n : n + len(added)] = added
            n, start = n + len(added), start + len(added)
            if n == buffer_rows:
                n -= chunk_rows  # a chunk leaves the buffer, n rows stay
                yield _drawn(buffer, n, chunk_rows, rng)
    order = rng.permutation(n)  # what is left in the end
    for start in range(0, n, chunk_rows):
        yield buffer[order[start : start + chunk_rows]]


def _drawn(buffer, n, chunk_rows, rng):
    """Return rows drawn from a full buffer; the others are its first `n` afterwards."""
    drawn = rng.permutation(len(buffer))[:chunk_rows]
    chunk = buffer[drawn]
    stays = np.ones(len(buffer), dtype=bool)  # (buffer_rows,), rows that are not drawn
    stays[drawn] = False
    # Rows behind the first n that were not drawn move to the slots that were.
    buffer[drawn[drawn < n]] = buffer[n:][stays[n:]]
    return chunk


def _is_size(value):
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 1


def extract_paired(extractors, X):
    """Return the activations of the same tokens in several models, side by side.

    Each model reads all of X, one after the other. What comes back is what a `Crosscoder` takes,
    with the blocks for its parameter of this name.

    Parameters
    ----------
    extractors : dict of str to ActivationExtractor
        Two or more extractors, by the names that their blocks get, such as ``"base"`` and
        ``"tuned"``: of several models, or of several stages of training of one. Sites and layers
        may differ; tokenizer and choice of tokens must be the same.
    X : iterable
        The texts, or what else the models read.

    Returns
    -------
    rows : ndarray of shape (n_tokens, n_features), dtype=float32
        One row per token, text after text; the columns of the first extractor come first.
    tokens : TokenTable of length n_tokens
        The table of the first extractor.
    blocks : dict of str to int
        Number of columns of each extractor by its name. Where one has several sites, there is a
        block for each, as ``"tuned.2.mlp_out"``.

    Raises
    ------
    TypeError
        If `extractors` is no dict of extractors.
    ValueError
        If there are less than two, one of them pools, or the rows of one would be other tokens, or
        in other windows, than those of the first.

    See Also
    --------
    ActivationExtractor : With lists of layers and sites, several places of one model.
    sksae.Crosscoder : Codes that the blocks share.

    Examples
    --------
    >>> from sksae import ActivationExtractor
    >>> from sksae.datasets import load_tiny_lm
    >>> from sksae.language_models import extract_paired, randomized_model
    >>> model, tokenizer = load_tiny_lm()
    >>> other, _ = randomized_model(model, random_state=0)
    >>> rows, tokens, blocks = extract_paired(
    ...     {
    ...         "trained": ActivationExtractor(model, layer=2, tokenizer=tokenizer),
    ...         "random": ActivationExtractor(other, layer=2, tokenizer=tokenizer),
    ...     },
    ...     ["Return the sum of the array."],
    ... )
    >>> rows.shape, len(tokens), blocks
    ((7, 384), 7, {'trained': 192, 'random': 192})
    """
    _check(extractors)
    check_container(X)
    items = list(X)  # each extractor reads them
    parts, blocks, first, table = [], {}, None, None
    for name, extractor in extractors.items():
        rows, tokens = extractor.extract(items)
        reader = ActivationReader(extractor)
        windows = getattr(reader.source, "max_length", None)  # images have no length of windows
        if table is None:
            first, table, first_windows = name, tokens, windows
        elif difference := _difference(table, tokens) or _other_windows(first_windows, windows):
            raise ValueError(
                f"The rows of {name!r} are not those of {first!r}: {difference}. Both need one "
                f"tokenizer, and the same parameters that choose tokens and the length of windows."
            )
        labels = [f"{name}.{site}" if is_several(extractor) else name for site in reader.points]
        blocks.update(zip(labels, reader.widths(), strict=True))
        parts.append(rows)
    return np.hstack(parts), table, blocks


def _check(extractors):
    if not isinstance(extractors, Mapping) or not all(
        isinstance(extractor, ActivationExtractor) for extractor in extractors.values()
    ):
        raise TypeError(f"extractors must be a dict of ActivationExtractor. Got {extractors!r}.")
    if len(extractors) < 2:
        raise ValueError(f"extractors must be two or more. Got {len(extractors)}.")
    for name, extractor in extractors.items():
        if extractor.pooling is not None:
            raise ValueError(f"Tokens are paired, but {name!r} has pooling={extractor.pooling!r}.")


def _difference(first, second):
    """Describe how the tokens of two tables differ; None if they do not."""
    n_texts = max(len(first.texts), len(second.texts))
    # Rows per text, in both tables.
    counts = [np.bincount(table.text, minlength=n_texts) for table in (first, second)]
    unequal = np.flatnonzero(counts[0] != counts[1])
    if len(unequal):
        text = int(unequal[0])
        return f"text {text} has {counts[1][text]} rows, and {counts[0][text]} there"
    # The first token that differs, if any.
    for i in np.flatnonzero((first.id != second.id) | (first.position != second.position))[:1]:
        tokens = [
            f"{t.string[i]!r} (id {t.id[i]}, position {t.position[i]})" for t in (second, first)
        ]
        return f"a token of text {first.text[i]} is {tokens[0]}, and {tokens[1]} there"
    return None


def _other_windows(first, second):
    return None if first == second else f"its windows have {second} tokens, and {first} there"

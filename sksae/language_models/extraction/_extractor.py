"""ActivationExtractor: the transformer from texts to activations of a language model."""

from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from sksae._reprs import ShortRepr
from sksae.language_models.extraction._for_sae import ForSAE
from sksae.language_models.extraction._parameters import RULES, SharedModel, check_parameters
from sksae.language_models.extraction._reader import Reader
from sksae.language_models.extraction._shuffling import buffer_size, shuffled
from sksae.language_models.extraction._store import store
from sksae.language_models.extraction._texts import check_container, check_items


class ActivationExtractor(
    ShortRepr, ForSAE, SharedModel, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Activations of a language model, one row per token or one row per text.

    X is an iterable of texts (str), of token ids, of conversations (lists of dict with "role" and
    "content", written by the tokenizer's template), of mappings with one of the keys "messages",
    "input_ids", "text" and "image", such as the rows of a Hugging Face data set, or, for a model
    that reads pixels, of images: PIL images, uint8 arrays of shape (height, width, channels), or
    float arrays of shape (channels, height, width), which are passed on as they are.

    What is read runs through the model up to the hooked module and no further. A text longer than
    the model's context is cut into consecutive windows; the model reads each window by itself.
    Padding never becomes a row: token ids that come with an ``"attention_mask"`` are cut down to
    the tokens whose mask is 1, which must be consecutive; token ids without one are all read. Of
    an image the patches are the tokens.

    Parameters
    ----------
    model : str, Path or PreTrainedModel
        The name of a model on the Hugging Face hub, the path of a folder with one, or a model.
        A name or a path is loaded when it is first needed, without a head, and shared by all
        clones. A model object is used as it is.
    layer : int, default=None
        The block, counted from 0, or from the end if negative. None with ``site="embeddings"``
        and with a module path.
    site : str, default="resid_post"
        Where in the block:

        - ``"resid_pre"``: the residual stream that enters the block;
        - ``"resid_mid"``: the stream between attention and MLP, if the one comes after the other;
        - ``"resid_post"``: the stream that leaves the block;
        - ``"attn_out"``, ``"mlp_out"``: what attention and MLP add to the stream;
        - ``"embeddings"``: what enters the first block, positions and all;
        - any other string is the path of a module whose output is wanted (or its input, as in
          ``"h.3.attn.c_proj.input"``), from ``model.named_modules()``, as ``"h.3.mlp.act"``;
        - a name of TransformerLens, as ``"blocks.3.hook_resid_post"``, has layer and site.
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
    pass: a few short passes tell, the first time that a place in a model is read.

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
    """

    _param_rules = RULES

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
            If a parameter or `X` is not what it should be.
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
            If `X` is not what it should be, the model has no such layer or site, the module runs
            several times in a pass or has not one row per token, or a text without tokens is to be
            pooled.
        """
        reader, items = Reader(self), check_items(X)
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
        whole = Reader(self).all_rows(*check_items(X), table=True)
        return whole.rows, whole.tokens

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
        return ((c.first, c.rows, c.tokens) for c in Reader(self).chunks(X, table=True))

    def stream(self, X, *, chunk_rows=16384, buffer_rows=None, random_state=None):
        """Return the rows of the tokens in random order, chunk by chunk, for `partial_fit`.

        Parameters
        ----------
        X : iterable
            The texts, or what else the model reads, read as far as needed.
        chunk_rows : int, default=16384
            Rows of a chunk; the last one has what is left.
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
        buffer_rows = buffer_size(chunk_rows, buffer_rows)
        blocks = (chunk.rows for chunk in Reader(self).chunks(X, table=False))
        return shuffled(blocks, chunk_rows, buffer_rows, random_state)

    def to_memmap(self, X, path, dtype="float16"):
        """Write one row per token to a folder and open it; more than fits in memory is fine.

        A crash at any moment costs at most what was added last, about 65,000 tokens: call it again
        with the same texts and parameters, and it continues. A complete folder is opened and never
        changed.

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
        rows : memmap of shape (n_tokens, n_features)
            The activations, read from the disk as they are used.
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
        return store(Reader(self), X, path, dtype)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags

    @property
    def _n_features_out(self):
        return Reader(self).width()

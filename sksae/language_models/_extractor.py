"""ActivationExtractor: texts in, activations of a language model out."""

import copy

import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from sksae._params import Bool, Instance, Int, Option, Verbosity, check_params
from sksae.language_models import _windows
from sksae.language_models._loading import Loadable, is_name, load, share
from sksae.language_models._passes import Passes, check_vocabulary, context_length
from sksae.language_models._pooling import POOLINGS
from sksae.language_models._sites import base_of, find_place
from sksae.language_models._texts import check_texts


class ActivationExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Activations of a language model, one row a token or one row a text.

    The texts run through the model up to the hooked module and no further. Padding and special
    tokens never become rows. A text longer than the model's context is cut into consecutive
    windows, so that no token of it is lost; the model reads each window by itself.

    The transformer is stateless: `fit` checks the parameters, and `transform` works without it.

    Parameters
    ----------
    model : str, Path or PreTrainedModel
        The name of a model on the Hugging Face hub, the path of a folder with one, or a model.
        A name or a path is loaded when it is first needed, without a head, and shared by all
        clones. A model object is used as it is, where it is; `clone` passes it on and never
        copies it.
    layer : int, default=None
        The block, counted from 0, or from the end if negative. None with ``site="embeddings"``
        and with a module path.
    site : str, default="resid_post"
        Where in the block:

        - ``"resid_pre"``: the residual stream that enters the block;
        - ``"resid_mid"``: the stream between attention and MLP; after the LayerNorm in BERT, absent
          where the two are computed in parallel;
        - ``"resid_post"``: the stream that leaves the block;
        - ``"attn_out"``, ``"mlp_out"``: what attention and MLP add to the stream;
        - ``"embeddings"``: what enters the first block, positions and all;
        - any other string is the path of a module whose output is wanted, such as
          ``"h.3.mlp.act"``, as in ``model.named_modules()``, with or without the head's prefix.
    tokenizer : str, Path or tokenizer, default=None
        None takes the one that goes with the model's name or path. Needed with a model object.
        It is never modified.
    pooling : {None, "mean", "max", "first", "last"}, default=None
        None gives one row a token; the others one row a text, pooled over the tokens that would
        have become rows. Only these fit into a Pipeline with a target.
    max_length : int, default=None
        The most tokens that the model reads at once, special ones included. Longer texts are cut
        into windows of that many. None is the model's limit.
    include_special_tokens : bool, default=False
        Whether special tokens, such as BERT's ``[CLS]``, become rows.
    drop_first_position : bool, default=False
        Whether to leave out the first position of each window. In models without a special token
        in front its activations are outliers that carry little of the text.
    batch_tokens : int, default=4096
        The most tokens in one forward pass, padding included.
    device : str, default="auto"
        Where to run a model given by name: ``"auto"`` is a GPU if there is one. A model object
        stays where it is.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        The precision of a model given by name; ``"auto"`` is the checkpoint's own. Rows are
        float32 in any case.
    verbose : int or bool, default=0
        Whether to show progress.

    See Also
    --------
    TokenTable : What `extract` says about each row.

    Notes
    -----
    A pickle holds the parameters: the name if `model` is a name, the whole model if it is an
    object. The same goes for what joblib sends to other processes; each of them loads the model
    again. In a grid over models use names: a search copies the values of its grid.

    The result for a text does not depend on the other texts, up to the rounding of the model's
    arithmetic.

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

    _param_rules = {
        "model": Loadable("get_input_embeddings", "Hugging Face model"),
        "layer": Int(none=True),
        "site": Instance(str, description="a str"),
        "tokenizer": Loadable("all_special_ids", "tokenizer", none=True),
        "pooling": Option(None, *POOLINGS),
        "max_length": Int(1, none=True),
        "include_special_tokens": Bool(),
        "drop_first_position": Bool(),
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
        pooling=None,
        max_length=None,
        include_special_tokens=False,
        drop_first_position=False,
        batch_tokens=4096,
        device="auto",
        dtype="auto",
        verbose=0,
    ):
        self.model = model
        self.layer = layer
        self.site = site
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.max_length = max_length
        self.include_special_tokens = include_special_tokens
        self.drop_first_position = drop_first_position
        self.batch_tokens = batch_tokens
        self.device = device
        self.dtype = dtype
        self.verbose = verbose

    def fit(self, X, y=None):
        """Check the parameters; nothing is learnt and nothing is loaded.

        Parameters
        ----------
        X : iterable of str
            The texts.
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
        self._check_parameters()
        if isinstance(X, (str, bytes)):
            check_texts(X)
        return self

    def transform(self, X):
        """Return the activations of texts.

        Parameters
        ----------
        X : iterable of str
            The texts.

        Returns
        -------
        rows : ndarray of shape (n_tokens, n_features) or (n_texts, n_features), dtype=float32
            One row a token, text after text, or one row a text if `pooling` is set.

        Raises
        ------
        ValueError
            If `X` is not a list of texts, the model has no such layer or site, or a text without
            tokens is to be pooled.
        """
        texts = check_texts(X)
        passes, _ = self._prepare(texts)
        if self.pooling is None:
            return passes.token_rows()
        return passes.text_rows(len(texts), self.pooling)

    def extract(self, X):
        """Return one row a token, whatever `pooling` is, and which token each row is.

        Parameters
        ----------
        X : iterable of str
            The texts.

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
        texts = check_texts(X)
        passes, tokens = self._prepare(texts, table=True)
        return passes.token_rows(), tokens

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags

    def __sklearn_clone__(self):
        # scikit-learn's clone deep-copies parameters that are no estimators.
        twin = type(self)(**self.get_params(deep=False))
        for name in ("_sklearn_output_config", "_metadata_request"):
            if name in self.__dict__:
                setattr(twin, name, copy.deepcopy(getattr(self, name)))
        share(self, twin)
        return twin

    @property
    def _n_features_out(self):
        return self._prepare([])[0].width()

    def _prepare(self, texts, *, table=False):
        """Return the passes over `texts`, none of them made yet, and the token table if wanted."""
        self._check_parameters()
        model, tokenizer = load(self)
        base, place = base_of(model), find_place(model, self.layer, self.site)
        encoding = _windows.encode(tokenizer, texts, spans=table)
        windows = _windows.cut(
            encoding,
            _windows.frame_of(tokenizer, texts),
            self._window_length(base, tokenizer),
            include_special=self.include_special_tokens,
            drop_first=self.drop_first_position,
        )
        check_vocabulary(base, windows.ids)
        passes = Passes(base, place, windows, self.batch_tokens, self.verbose)
        return passes, _windows.table_of(tokenizer, texts, encoding, windows) if table else None

    def _window_length(self, base, tokenizer):
        limit, recommended = context_length(base, tokenizer)
        if self.max_length is None:
            return recommended
        if self.max_length > limit:
            raise ValueError(
                f"max_length={self.max_length} is more than the {limit} positions that "
                f"{type(base).__name__} has."
            )
        return self.max_length

    def _check_parameters(self):
        check_params(self)
        if is_name(self.model):
            return
        if self.tokenizer is None:
            raise ValueError("With a model object the 'tokenizer' parameter is needed as well.")
        for name in ("device", "dtype"):
            if getattr(self, name) != "auto":
                raise ValueError(
                    f"A model object is used as it is: leave {name}='auto' and move the model "
                    f"yourself, as in model.to({getattr(self, name)!r})."
                )

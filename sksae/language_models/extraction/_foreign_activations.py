"""Activations that other programs wrote, as rows and the table of their tokens."""

from itertools import accumulate

import numpy as np
from safetensors import SafetensorError, safe_open

from sksae._arrays import objects
from sksae._files import as_path, damage_named, read_json, regular
from sksae._optional import needed
from sksae._params import Bool, Instance, Option, check_option
from sksae.language_models.extraction._token_table import TokenTable

_FORMATS = ("vllm", "saelens", "bionemo")
_TOKEN_IDS = "token_ids"


def read_activations(path, *, format="auto", site=None, tokenizer=None, drop_first_position=True):  # noqa: A002 - the word that pandas and pillow use
    """Read activations that vLLM, SAELens or BioNeMo wrote.

    The rows are in memory and can be given to `fit` of any estimator; for more than fits there,
    read a file at a time and call `partial_fit`.

    Parameters
    ----------
    path : str or Path
        A file of vLLM, or a folder.
    format : {"auto", "vllm", "saelens", "bionemo"}, default="auto"
        The program that wrote it. "auto" goes by the names of the files.
    site : int or str, default=None
        Of several the one to read: in files of vLLM the place of its layer in the list that vLLM
        was given, in those of SAELens the name of the hook. None reads the only one.
    tokenizer : tokenizer, default=None
        Turns ids into strings. None writes an id as ``"#17"``.
    drop_first_position : bool, default=True
        Whether to leave out the first token of each sequence, as `ActivationExtractor` does.

    Returns
    -------
    rows : ndarray of shape (n_tokens, n_features), dtype=float32
        The activations.
    tokens : TokenTable of length n_tokens
        Sequence, position, id and string of each row. Ids are -1 where the files have none; for
        BioNeMo, whose files do not say where a sequence begins, each row is a text of its own, and
        no row is left out.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    ValueError
        If the format is not recognised, a file is damaged, or `site` does not choose one of the
        sites.
    ImportError
        If pyarrow is not installed, which the formats of SAELens and BioNeMo need.

    See Also
    --------
    load_activations : Opens what `ActivationExtractor.to_memmap` wrote.

    Notes
    -----
    vLLM's feature "extract_hidden_states" writes a safetensors file per request, with
    ``hidden_states`` of shape (n_tokens, n_layers, n_features). Its layers are counted from 1:
    layer 3 is what the third block leaves, here ``layer=2, site="resid_post"``; the last one is not
    normalised. SAELens' `CacheActivationsRunner` writes a data set of Arrow files, one sequence per
    line, without ids in versions before 6. BioNeMo's `ActivationStore` writes Parquet shards of
    rows.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from safetensors.numpy import save_file
    >>> from sksae.language_models import read_activations
    >>> states = {"hidden_states": np.ones((4, 1, 8), "f4"), "token_ids": np.arange(4)}
    >>> with TemporaryDirectory() as folder:
    ...     save_file(states, f"{folder}/request-0.safetensors")
    ...     rows, tokens = read_activations(folder)
    >>> rows.shape, tokens.string.tolist()
    ((3, 8), ['#1', '#2', '#3'])
    """
    check_option("format", format, Option("auto", *_FORMATS))
    check_option("drop_first_position", drop_first_position, Bool())
    check_option("site", site, Instance(int, str, type(None), description="an int, a str or None"))
    path = as_path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is nothing at {path}.")
    kind = _recognised(path) if format == "auto" else format
    if kind == "bionemo":
        rows = _of_shards(path)
        # One row per text, whose token is not known.
        return rows, _table([np.full(1, -1)] * len(rows), tokenizer, 0)
    read = {"vllm": _of_vllm, "saelens": _of_saelens}[kind]
    sequences = [(x.astype(np.float32, copy=False), ids) for x, ids in read(path, site)]
    if not sequences or len({x.shape[1] for x, _ in sequences}) != 1:
        raise ValueError(f"{path} has no sequences of one width.")
    first = int(drop_first_position)
    tokens = _table([ids for _, ids in sequences], tokenizer, first)
    return np.concatenate([x[first:] for x, _ in sequences]), tokens


def _recognised(path):
    if path.suffix == ".safetensors":
        return "vllm"
    if path.is_dir() and (path / "dataset_info.json").is_file():
        return "saelens"
    if path.is_dir() and any(path.glob("shard_*.parquet")):
        return "bionemo"
    if path.is_dir() and any(path.glob("*.safetensors")):
        return "vllm"
    raise ValueError(
        f"{path} is none of the formats {', '.join(_FORMATS)}: a folder with *.safetensors, with "
        f"dataset_info.json, or with shard_*.parquet."
    )


def _chosen(sites, site, path):
    """Return the requested site."""
    if site is None and len(sites) == 1:
        return sites[0]
    if site not in sites:
        listed = ", ".join(map(repr, sites))
        raise ValueError(f"{path} has the sites {listed}: choose one. Got site={site!r}.")
    return site


def _of_vllm(path, site):
    """Yield rows and ids of each request, in the order of the names of the files."""
    for file in [path] if path.is_file() else sorted(path.glob("*.safetensors")):
        with damage_named(file), _opened(file) as entries:
            # (n_tokens, n_layers, n_features)
            states, ids = entries.get_tensor("hidden_states"), entries.get_tensor(_TOKEN_IDS)
            if states.ndim != 3 or ids.shape != states.shape[:1]:
                raise ValueError(f"its tensors have shapes {states.shape} and {ids.shape}")
        place = _chosen(range(states.shape[1]), site, file)
        yield states[:, place].float().numpy(), ids.long().numpy()


def _opened(file):
    try:
        return safe_open(regular(file), "torch")  # numpy has no bfloat16
    except SafetensorError as error:
        raise ValueError(f"it is not a whole safetensors file ({error})") from error


def _of_saelens(folder, site):
    """Yield rows and ids of each sequence of a data set."""
    pyarrow = needed("pyarrow", "read_activations")
    files = [entry["filename"] for entry in read_json(folder / "state.json")["_data_files"]]
    for file in files:
        name = folder / as_path(file).name  # a file of this folder, whatever the other file says
        with damage_named(name), pyarrow.OSFile(str(regular(name))) as source:
            table = pyarrow.ipc.open_stream(source).read_all()
        hooks = [column for column in table.column_names if column != _TOKEN_IDS]
        hook = _chosen(hooks, site, folder)
        for line in range(table.num_rows):
            x = np.array(table[hook][line].as_py(), dtype=np.float32)
            with_ids = _TOKEN_IDS in table.column_names
            ids = table[_TOKEN_IDS][line].as_py() if with_ids else np.full(len(x), -1)
            yield x, np.asarray(ids)


def _of_shards(folder):
    """Return the rows of Parquet shards: a column per feature, or one column of lists."""
    parquet = needed("pyarrow.parquet", "read_activations")
    shards = []
    for file in sorted(folder.glob("shard_*.parquet")):
        with damage_named(file):
            table = parquet.read_table(regular(file))
            columns = [column.to_numpy() for column in table.columns]
            if len(columns) == 1 and columns[0].dtype == object:
                shards.append(np.stack(columns[0]).astype(np.float32))
            else:
                shards.append(np.stack(columns, axis=1).astype(np.float32))
    return np.concatenate(shards)


def _table(sequences, tokenizer, first):
    """Return the token table of sequences of ids, without the first tokens of each."""
    columns = {name: [] for name in ("text", "position", "id", "string", "start", "end")}
    texts = []
    for number, ids in enumerate(sequences):
        strings = [_string(int(i), tokenizer) for i in ids]
        ends = list(accumulate(map(len, strings)))  # characters up to the end of each token
        positions = range(first, len(ids))
        columns["text"] += [number] * len(positions)
        columns["position"] += positions
        columns["id"] += [int(i) for i in ids[first:]]
        columns["string"] += strings[first:]
        columns["start"] += [ends[i] - len(strings[i]) for i in positions]
        columns["end"] += ends[first:]
        texts.append("".join(strings))
    strings = objects(columns.pop("string"))
    numbers = {name: np.array(values, dtype=np.int64) for name, values in columns.items()}
    # One group per token.
    return TokenTable(**numbers, group=numbers["position"], string=strings, texts=texts)


def _string(token_id, tokenizer):
    if token_id < 0:
        return ""
    return f"#{token_id}" if tokenizer is None else tokenizer.decode([token_id])

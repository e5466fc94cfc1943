"""What counts as texts."""


def check_texts(X):
    """Return `X` as a list of str, or raise a ValueError that names the first that is none."""
    if isinstance(X, (str, bytes)):
        raise ValueError(
            "X must be an iterable of texts, one str each. Got one text: wrap it, [X]."
        )
    texts = list(X)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"X must be an iterable of str, but X[{i}] is {_named(text)}.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"X[{i}] is not valid Unicode: {error}.") from error
    return texts


def _named(value):
    return "None" if value is None else f"of type {type(value).__name__}"

"""The arguments of `write_neuronpedia`, checked, as what goes into the files."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sksae._arrays import to_torch
from sksae._hook_names import IN_BLOCKS
from sksae._params import Instance, check_option
from sksae.formats.neuronpedia._fields import EXPLANATION, MODEL, RELEASE, SOURCE, SOURCE_SET
from sksae.formats.neuronpedia._lines import well_formed

_FURTHER = {
    "release": RELEASE,
    "model": MODEL,
    "sourceset": SOURCE_SET,
    "source": SOURCE,
    "explanation": EXPLANATION,
}
_OURS = {"id", "modelId", "setName", "releaseName", "index", "layer", "description", "scores"}
_OURS |= {"authorId", "creatorId", "createdAt", "updatedAt"}


def common_fields(facts, names, creator_id, created_at):
    """Return the fields that all lines share; `names` are model, set, layer and suffix."""
    model_id, set_name, layer, suffix = names
    check_option("creator_id", creator_id, Instance(str, description="a str"))
    return {
        "modelId": _name("model_id", model_id),
        "layer": _source_name(facts, layer, set_name, suffix),
        "creatorId": well_formed(creator_id),
        "createdAt": _time(created_at),
    }


def features_of(features, n_components):
    """Return the numbers of the features to write."""
    if features is None:
        return range(n_components)
    return [_feature(feature, n_components) for feature in np.ravel(features).tolist()]


def _feature(feature, n_components):
    if isinstance(feature, bool) or not isinstance(feature, Integral):
        raise ValueError(f"A feature must be an int. Got {feature!r} instead.")
    if not 0 <= feature < n_components:
        raise ValueError(f"There is no feature {feature}: the atlas has {n_components}.")
    return int(feature)


def explanations_of(explanations, n_components):
    """Return the explanations by feature, known to be features of the atlas."""
    if explanations is None:
        return {}
    if not isinstance(explanations, Mapping):
        raise ValueError(
            f"explanations must be a dict from features to texts, got a "
            f"{type(explanations).__name__}."
        )
    return {_feature(key, n_components): value for key, value in explanations.items()}


def further_of(further):
    """Return the further fields by file, known to be fields of it."""
    fields_by_file = {name: {} for name in _FURTHER}
    for name, fields in ({} if further is None else further).items():
        if name not in _FURTHER:
            raise ValueError(f"further has {name!r}, which is none of {', '.join(_FURTHER)}.")
        for field in fields:
            if field in _OURS or field not in _FURTHER[name]:
                free = ", ".join(sorted(set(_FURTHER[name]) - _OURS))
                raise ValueError(f"further[{name!r}] has {field!r}, which is none of {free}.")
        fields_by_file[name] = dict(fields)
    return fields_by_file


def _source_name(facts, layer, set_name, suffix):
    """Return the name of the source, which is the name of its folder."""
    layer = facts.get("layer") if layer is None else layer
    if isinstance(layer, bool) or not isinstance(layer, Integral) or layer < 0:
        raise ValueError(f"layer must be given, as the number of a block. It is {layer!r}.")
    name = f"{int(layer)}-{_name('set_name', set_name)}"
    return name if suffix is None else f"{name}__{_name('suffix', suffix)}"


def _name(parameter, name):
    """Return a name that can be part of paths and addresses."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"{parameter} must be made of letters, digits, dots, dashes and underscores and begin "
            f"with a letter or digit, as it is part of a path. Got {name!r} instead."
        )
    return name


def _time(created_at):
    check_option("created_at", created_at, Instance(datetime, type(None), description="a datetime"))
    created_at = datetime(1970, 1, 1) if created_at is None else created_at
    if created_at.tzinfo is None:  # the files do not depend on where they are written
        created_at = created_at.replace(tzinfo=UTC)
    return created_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def vectors_of(sae, n_components):
    """Return the directions of an estimator as numpy, or None."""
    if sae is None:
        return None
    check_is_fitted(sae)
    vectors = to_torch(sae.components_).cpu().numpy()
    if len(vectors) != n_components:
        raise ValueError(
            f"sae has {len(vectors)} components, but the atlas was fitted on {n_components}."
        )
    return vectors


def hook_name_of(facts, source, hook_name):
    """Return what TransformerLens calls the site, or None."""
    if hook_name is None and facts.get("site") in IN_BLOCKS:
        return f"blocks.{source.partition('-')[0]}.hook_{facts['site']}"
    return hook_name

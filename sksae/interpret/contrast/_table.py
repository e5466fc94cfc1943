"""The measures of a contrast as a data frame."""

from collections.abc import Mapping

from sksae._optional import needed
from sksae._signs import visible

_COLUMNS = {
    "score": "scores_",
    "effect": "effects_",
    "pvalue": "pvalues_",
    "qvalue": "qvalues_",
    "family_pvalue": "family_pvalues_",
    **{
        name: f"{name}_"
        for name in (
            *("n_documents", "mean_pos", "mean_neg", "mean_difference", "t", "cohen_d"),
            *("firing_rate_pos", "firing_rate_neg", "log_odds", "z"),
            *("auroc", "auroc_low", "auroc_high", "held_out_auroc", "specificity"),
        )
    },
}


def as_frame(measures, selected, names):
    """Return a data frame of those measures that there are, a feature a line."""
    pd = needed("pandas", "FeatureContrast.table")
    columns = {} if names is None else {"name": _of_each(names, len(selected))}
    columns["selected"] = selected
    for column, attribute in _COLUMNS.items():
        if attribute in measures:
            columns[column] = measures[attribute]
    return pd.DataFrame(columns)


def _of_each(names, n_features):
    """Return a name a feature, empty where a mapping has none."""
    if isinstance(names, Mapping):
        return [visible(str(names.get(feature, ""))) for feature in range(n_features)]
    if len(names) != n_features:
        raise ValueError(f"feature_names has {len(names)} names; {n_features} are needed.")
    return [visible(str(name)) for name in names]

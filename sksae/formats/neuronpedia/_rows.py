"""Lines of Neuronpedia's files: the fields of each kind, and a feature of an atlas in them.

Neuronpedia's importer takes the names of the columns from the first line of a file. A field that
must not be null there has a value here, and every line of a kind has the same fields.
"""

import hashlib
import json
import math

from sksae._files import plain_json
from sksae._params import Float
from sksae.formats.neuronpedia._lines import digits, well_formed

CREATOR = "clkht01d40000jv08hvalcvly"
"""The user that every Neuronpedia instance starts with, to whom imported data belong."""

RELEASE = {
    "name": "",
    "visibility": "PUBLIC",
    "isNewUi": False,
    "featured": False,
    "description": "",
    "descriptionShort": None,
    "urls": [],
    "creatorEmail": None,
    "creatorName": "",
    "creatorNameShort": None,
    "creatorId": "",
    "defaultSourceSetName": None,
    "defaultSourceId": None,
    "defaultUmapSourceIds": [],
    "createdAt": "",
}

MODEL = {
    "id": "",
    "instruct": False,
    "displayNameShort": "",
    "displayName": "",
    "creatorId": "",
    "tlensId": None,
    "dimension": None,
    "visibility": "PUBLIC",
    "defaultSourceSetName": None,
    "defaultSourceId": None,
    "inferenceEnabled": False,
    "layers": 0,
    "neuronsPerLayer": 0,
    "createdAt": "",
    "owner": "",
    "updatedAt": "",
    "website": None,
}

SOURCE_SET = {
    "modelId": "",
    "name": "",
    "creatorId": "",
    "hasDashboards": True,
    "visibility": "PUBLIC",
    "description": "",
    "type": "",
    "creatorName": "",
    "urls": [],
    "creatorEmail": None,
    "releaseName": None,
    "defaultOfModelId": None,
    "defaultRange": 1,
    "defaultShowBreaks": True,
    "showDfa": False,
    "showCorrelated": False,
    "showHeadAttribution": False,
    "showUmap": False,
    "createdAt": "",
}

SOURCE = {
    "id": "",
    "modelId": "",
    "setName": "",
    "creatorId": "",
    "hasDashboards": True,
    "inferenceEnabled": False,
    "inferenceHosts": [],
    "saelensConfig": None,
    "saelensRelease": None,
    "saelensSaeId": None,
    "hfRepoId": None,
    "hfFolderId": None,
    "visibility": "PUBLIC",
    "defaultOfModelId": None,
    "hasUmap": False,
    "hasUmapLogSparsity": False,
    "hasUmapClusters": False,
    "num_prompts": None,
    "num_tokens_in_prompt": None,
    "dataset": None,
    "notes": None,
    "createdAt": "",
}

FEATURE = {
    "modelId": "",
    "layer": "",
    "index": "",
    "creatorId": "",
    "createdAt": "",
    "maxActApprox": 0.0,
    "hasVector": False,
    "vector": [],
    "vectorLabel": None,
    "vectorDefaultSteerStrength": 10.0,
    "hookName": None,
    "topkCosSimIndices": [],
    "topkCosSimValues": [],
    "neuron_alignment_indices": [],
    "neuron_alignment_values": [],
    "neuron_alignment_l1": [],
    "correlated_neurons_indices": [],
    "correlated_neurons_pearson": [],
    "correlated_neurons_l1": [],
    "correlated_features_indices": [],
    "correlated_features_pearson": [],
    "correlated_features_l1": [],
    "neg_str": [],
    "neg_values": [],
    "pos_str": [],
    "pos_values": [],
    "frac_nonzero": 0.0,
    "freq_hist_data_bar_heights": [],
    "freq_hist_data_bar_values": [],
    "logits_hist_data_bar_heights": [],
    "logits_hist_data_bar_values": [],
    "decoder_weights_dist": [],
    "sourceSetName": "",
}

ACTIVATION = {
    "id": "",
    "tokens": [],
    "dataIndex": None,
    "index": "",
    "layer": "",
    "modelId": "",
    "dataSource": None,
    "maxValue": 0.0,
    "maxValueTokenIndex": 0,
    "minValue": 0.0,
    "values": [],
    "dfaValues": [],
    "dfaTargetIndex": None,
    "dfaMaxValue": None,
    "creatorId": "",
    "createdAt": "",
    "lossValues": [],
    "logitContributions": None,
    "binMin": None,
    "binMax": None,
    "binContains": None,
    "qualifyingTokenIndex": None,
}

EXPLANATION = {
    "id": "",
    "modelId": "",
    "layer": "",
    "index": "",
    "description": "",
    "authorId": "",
    "typeName": None,
    "explanationModelName": None,
    "notes": None,
    "scoreV1": 0.0,
    "scoreV2": None,
    "umap_x": None,
    "umap_y": None,
    "umap_cluster": None,
    "umap_log_feature_sparsity": None,
    "scores": [],
}

SCORE = {
    "value": 0.0,
    "explanationId": "",
    "explanationScoreTypeName": "",
    "explanationScoreModelName": "",
    "jsonDetails": "",
}

_TOKENS = 10  # tokens that Neuronpedia shows for either end of the logits
_TOP = -1.0  # stands for "no interval": the strongest examples


def feature_row(feature, common, *, set_name, vector=None, hook_name=None):
    """Return the line of a `Feature`; `common` holds the fields that all lines share."""
    counts, edges = feature.histogram
    # JSON cannot hold a cosine that is NaN.
    near = [neighbor for neighbor in feature.nearest if math.isfinite(neighbor.cosine)]
    fields = {
        "index": str(feature.feature),
        "maxActApprox": digits(feature.max_activation),
        "frac_nonzero": digits(feature.density),
        "topkCosSimIndices": [int(neighbor.feature) for neighbor in near],
        "topkCosSimValues": [digits(neighbor.cosine) for neighbor in near],
        "freq_hist_data_bar_heights": [int(count) for count in counts],
        "freq_hist_data_bar_values": [digits(x) for x in (edges[:-1] + edges[1:]) / 2],
        "sourceSetName": set_name,
    }
    for name, tokens in (("pos", feature.promoted), ("neg", feature.suppressed)):
        fields[f"{name}_str"] = [well_formed(token) for token, _ in tokens[:_TOKENS]]
        fields[f"{name}_values"] = [digits(value) for _, value in tokens[:_TOKENS]]
    if vector is not None:
        # Codes are in the unit of X and directions have norm one, so that this strength adds
        # what the feature adds where it is strongest.
        strength = digits(feature.max_activation)
        fields |= {"hasVector": True, "vector": [digits(x) for x in vector.tolist()]}
        fields |= {"vectorDefaultSteerStrength": strength, "hookName": hook_name}
    return {**FEATURE, **common, **fields}


def activation_rows(feature, common, n_quantiles):
    """Yield the lines of the examples of a `Feature`, the strongest first, then the quantiles."""
    top = (_TOP, feature.max_activation, _TOP, feature.examples)
    bins = [top, *feature.quantiles(n_quantiles)]
    for group, (*limits, examples) in enumerate(bins):
        low, high, contains = map(digits, limits)
        for number, example in enumerate(examples):
            key = f"{feature.feature}/{group}/{number}"
            yield {
                **ACTIVATION,
                **common,
                "id": identifier("activation", common, key),
                "index": str(feature.feature),
                **_window(example),
                "binMin": low,
                "binMax": high,
                "binContains": contains,
            }


def explanation_row(feature, explanation, common, further):
    """Return the line of an explanation: an `Explanation`, or anything that is its text."""
    name = identifier("explanation", common, f"{feature}/0")
    source = getattr(explanation, "source", None)
    row = {
        **EXPLANATION,
        "id": name,
        "index": str(feature),
        "description": well_formed(str(getattr(explanation, "text", explanation))),
        # The field for the model refuses names that the instance does not know.
        "notes": None if source is None else well_formed(str(source)),
        **further,
    }
    row |= {key: common[key] for key in ("modelId", "layer")} | {"authorId": common["creatorId"]}
    scores = getattr(explanation, "scores", None) or {}
    row["scores"] = [
        _score(name, method, dict(score))
        for method, score in scores.items()
        if Float().accepts(score.get("value"))
    ]
    return row


def identifier(kind, common, key):
    """Return an id with the form of Neuronpedia's that depends on what it stands for alone."""
    text = "/".join((kind, common["modelId"], common["layer"], key))
    return "c" + hashlib.sha256(text.encode()).hexdigest()[:24]


def _window(example):
    values = [digits(value) for value in example.activations]
    return {
        "tokens": [well_formed(str(token)) for token in example.tokens],
        "values": values,
        "maxValue": max(values),
        "maxValueTokenIndex": values.index(max(values)),
        "minValue": min(values),
        "dataIndex": str(example.row),
        "qualifyingTokenIndex": int(example.peak),
    }


def _score(explanation, method, score):
    value, model = float(score.pop("value")), score.get("model")
    return {
        **SCORE,
        "value": value,
        "explanationId": explanation,
        "explanationScoreTypeName": well_formed(str(method)),
        "explanationScoreModelName": well_formed(str(model or "")),
        "jsonDetails": json.dumps({"sksae": plain_json(score, _text)}),
    }


def _text(value):
    return well_formed(str(value))

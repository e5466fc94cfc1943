"""
What drives the rating?
=======================

A thousand reviews, a rating of each, and nobody knows what to look for. One half of the reviews
finds features that go along with the rating and writes words about them; the other half tests
whether the words hold. The reviews are made here, so that the right answer is known.
"""

import matplotlib.pyplot as plt
import numpy as np

from sksae import ActivationExtractor, SAEVectorizer, TopKSAE
from sksae.datasets import TINY_LM_PATH
from sksae.interpret import (
    FeatureAtlas,
    FeatureContrast,
    annotate,
    explain,
    split_texts,
    validate,
)
from sksae.report import write_page

# %%
# Reviews whose truth is known
# ----------------------------
# Each of sixteen things is in an eighth of the reviews. Half of them move the rating, by up to a
# star; the others do not. And long reviews are worse ones, whatever they say.

MOVES = {"waiter": 1, "staff": 1, "ocean": 0.8, "sunset": 0.8}
MOVES |= {"noise": -1, "crowd": -1, "dust": -0.8, "smoke": -0.8}
THINGS = [*MOVES, "rain", "storm", "train", "car", "sister", "birthday", "soup", "bread"]
FRAMES = ["we saw the {}", "I remember the {}", "there was the {}", "my friend spoke of the {}"]
rng = np.random.default_rng(0)
texts = []
for number in range(1000):
    things = rng.permutation([thing for thing in THINGS if rng.random() < 1 / 8])
    sentences = [FRAMES[rng.integers(4)].format(thing) for thing in things]
    texts.append(". ".join([f"Visit {number}", *sentences, "it was a long day."]))
length = np.array([len(text) for text in texts])
moved = np.array([sum(MOVES[w] for w in MOVES if w in text) for text in texts])
rating = 3 + moved - (length - length.mean()) / 150 + rng.normal(scale=0.8, size=1000)
rating = np.clip(np.round(rating), 1, 5)
print(f"{texts[3]} {rating[3]:.0f} stars")

# %%
# Features of the first half
# --------------------------
# The split comes first. Autoencoder, atlas and words see one side only. The length of the text is a
# covariate, or every feature would go along with the rating.

finding, testing = split_texts(texts, random_state=0)
some, others = [texts[i] for i in finding], [texts[i] for i in testing]
extractor = ActivationExtractor(TINY_LM_PATH, layer=2)
rows, tokens = extractor.extract(some)
sae = TopKSAE(384, k=8, max_iter=12, sparse_output=True, random_state=0).fit(rows)
codes = SAEVectorizer(extractor, sae).transform(texts)
contrast = FeatureContrast(target_type="ordinal")
contrast.fit(codes[finding], rating[finding], covariates=length[finding])
selected = contrast.get_support(indices=True)
print(f"{len(selected)} of {codes.shape[1]} features go along with the rating")

# %%
# Words
# -----
# A feature may fire late in a text for what stood before, and its words need not say that. So the
# words are applied to the texts they were written from, and those are kept, a dozen at most, that
# explain the rating beside each other.

atlas = FeatureAtlas(sae, n_examples=50, n_per_octave=100).fit(rows, tokens=tokens)
words = explain(atlas, features=selected)
told = annotate(some, words)
choice = FeatureContrast(target_type="ordinal", n_features_to_select=12, random_state=0)
choice.fit(told, rating[finding], covariates=length[finding])
words = {number: words[number] for number in np.array(list(words))[choice.chosen_]}

# %%
# Statements that survive
# -----------------------
# Now the other half, which nothing has seen. The probability that any false statement survives is
# at most 5 %.

table = validate(
    others,
    rating[testing],
    words,
    target_type="ordinal",
    codes=codes[testing],
    covariates=length[testing],
    written_from=some,
)
columns = ["text", "survives", "n_texts", "with", "without", "effect", "family_pvalue"]
table[columns].round(3)

# %%
# All eight things that move the rating are there, and none of the others by itself. The packaged
# model is small, so that its tokens are pieces of words; a feature of two pieces, such as those of
# "staff" and "rain", makes a statement that is blurred, and still true of the texts that have one.
#
# In the picture, an effect is the correlation with the rating, beside the length of the text. Blue
# is a higher rating, orange a lower one, and what does not survive would be grey.

shown = table.sort_values("effect")
heights = np.arange(len(shown))
colors = np.where(shown["effect"] > 0, "#0072b2", "#d55e00")
colors[~shown["survives"].to_numpy(dtype=bool)] = "#b0b0b0"
figure, ax = plt.subplots(figsize=(8, 0.42 * len(shown) + 1.2), layout="constrained")
ax.axvline(0, color="0.8", linewidth=1, zorder=0)
ax.hlines(heights, shown["effect_low"], shown["effect_high"], colors=colors, linewidth=3)
ax.scatter(shown["effect"], heights, s=70, color=colors, edgecolor="white", zorder=3)
for height, line in zip(heights, shown.to_dict("records"), strict=True):
    stars = f"{line['with']:.1f} ★, else {line['without']:.1f}"
    ax.annotate(stars, (1.02, height), xycoords=("axes fraction", "data"), va="center", color="0.4")
ax.set_yticks(heights, shown["text"])
ax.tick_params(left=False)
ax.set(xlabel="effect on held-out reviews, with its interval of 95 %")
ax.set_title("What drives the rating?", loc="left")
ax.spines[["top", "right", "left"]].set_visible(False)

# %%
# A page to send around
# ---------------------
# One file shows the statements, reviews for and against each of them, and the features with their
# examples, with the rating beside every review.

page = write_page(
    "sksae-report/statements.html",
    atlas,
    title="What drives the rating?",
    explanations=words,
    columns={"rating": rating[finding], "length": length[finding]},
    statements=table,
    tested_on={"text": others, "rating": rating[testing], "length": length[testing]},
)
print(f"{page.stat().st_size / 1e6:.1f} MB")

# %%
# The same for a file of one's own:
#
# .. code-block:: bash
#
#    python -m sksae --texts reviews.csv --text-column text --target rating

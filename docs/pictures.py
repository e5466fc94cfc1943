"""Pictures of the README and the guide, which are committed: ``python docs/pictures.py``.

Each is a picture that the gallery made when the site was built, with fewer colours.
"""

from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent
PICTURES = {
    # name: section of the gallery, example, number of its picture
    "digits": ("tables", "digits", 2),
    "named_components": ("tables", "named_components", 1),
    "choosing_sparsity": ("tables", "choosing_sparsity", 1),
    "comparing": ("tables", "comparing", 1),
    "image_patches": ("tables", "image_patches", 1),
    "vision_patches": ("language_models", "vision_patches", 1),
    "circuit": ("language_models", "circuit", 2),
    "attribution_graph": ("language_models", "attribution_graph", 1),
}
WIDTH = 1100  # pixels, at most

for name, (section, example, number) in PICTURES.items():
    made = DOCS / "gallery" / section / "images" / f"sphx_glr_{example}_{number:03}_2_00x.png"
    if not made.exists():
        print(f"The gallery has no {made.name}: {name}.png stays as it is.")
        continue
    picture = Image.open(made).convert("RGB")
    picture.thumbnail((WIDTH, WIDTH))
    picture = picture.quantize(96, dither=Image.Dither.NONE)
    picture.save(DOCS / "images" / f"{name}.png", optimize=True)

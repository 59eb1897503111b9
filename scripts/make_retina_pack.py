"""Cut the CHASE_DB1 photographs into the tiles of `inkwash/data/bundled/retina_vessels.zip`.

    python scripts/make_retina_pack.py CHASE_DB1.zip

CHASE_DB1.zip holds `images/Image_01L.jpg` (999 x 960) and `vessels/Image_01L.png` (the first observer) for the
left and right eye of 14 children (Fraz et al., IEEE Trans. Biomed. Eng. 59(9), 2012). A tile is a square of
`SOURCE` pixels, made `TILE` pixels wide; it is kept where it lies in the field of view and shows vessels.
"""

import argparse
import csv
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

SOURCE, STRIDE, TILE = 320, 96, 128
# A tile pixel is vessel where a third of its area is: at one half the thin vessels would break.
VESSEL = 1 / 3
LEAST_INSIDE, LEAST_VESSEL = 0.97, 0.03
FIRST_TEST_PATIENT = 11  # the customary test set is the last eight photographs
QUALITY = 88
BUNDLED = Path(__file__).parents[1] / "src/inkwash/data/bundled/retina_vessels.zip"


def tiles(image: Image.Image, vessels: Image.Image):
    """Yield (top, left, tile, mask) of one photograph."""
    inside = np.asarray(image)[..., 0] > 30  # outside of the field of view the photographs are black
    for top in range(0, image.height - SOURCE + 1, STRIDE):
        for left in range(0, image.width - SOURCE + 1, STRIDE):
            box = (left, top, left + SOURCE, top + SOURCE)
            if inside[top : top + SOURCE, left : left + SOURCE].mean() < LEAST_INSIDE:
                continue
            area = vessels.crop(box).convert("L").resize((TILE, TILE), Image.Resampling.BOX)
            mask = Image.fromarray(np.asarray(area) >= 255 * VESSEL)
            if np.asarray(mask).mean() >= LEAST_VESSEL:
                yield top, left, image.crop(box).resize((TILE, TILE), Image.Resampling.LANCZOS), mask


def encode(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, default=BUNDLED)
    arguments = parser.parse_args()
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["id", "patient", "split", "image", "mask", "photograph", "top", "left"])
    files = {}
    with zipfile.ZipFile(arguments.source) as source:
        for name in sorted(n for n in source.namelist() if n.startswith("images/")):
            stem = Path(name).stem
            patient = stem.removeprefix("Image_")[:2]
            image = Image.open(io.BytesIO(source.read(name))).convert("RGB")
            vessels = Image.open(io.BytesIO(source.read(f"vessels/{stem}.png")))
            split = "test" if int(patient) >= FIRST_TEST_PATIENT else "train"
            for number, (top, left, tile, mask) in enumerate(tiles(image, vessels)):
                key = f"{stem.removeprefix('Image_')}_{number:02d}"
                paths = f"images/{key}.webp", f"masks/{key}.png"
                files[paths[0]] = encode(tile, "WEBP", quality=QUALITY, method=6)
                files[paths[1]] = encode(mask, "PNG", optimize=True)
                rows.writerow([key, patient, split, *paths, stem, top, left])
    with zipfile.ZipFile(arguments.out, "w") as pack:
        for name, data in {"index.csv": table.getvalue().encode(), **files}.items():
            # An entry without a date: the pack is the same bytes every time.
            pack.writestr(zipfile.ZipInfo(name), data)
    print(f"{arguments.out}: {len(files) // 2} tiles, {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

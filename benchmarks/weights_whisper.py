"""Random weights of a Whisper; `python weights_whisper.py FOLDER SHAPE VOCABULARY_FOLDER` in the environment `whisper`.

FOLDER is then a weights folder as `talkies pull` leaves it; the vocabulary is that of the pulled whisper-base.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "harness" / "models"))

from make_whisper import TINY, Shape, build

SHAPES = {
    "whisper-base": Shape(512, 6, 6, 8, 80),
    "whisper-large-v3": Shape(1280, 32, 32, 20, 128),
    "whisper-large-v3-turbo": Shape(1280, 32, 4, 20, 128),
}

if __name__ == "__main__":
    folder, shape, vocabulary = sys.argv[1:]
    build(Path(folder), Path(vocabulary), TINY if shape.endswith("-tiny") else SHAPES[shape], None)

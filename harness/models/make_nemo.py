"""Makes the tiny NeMo models; `python make_nemo.py FOLDER CLIP CLIP` in the environment `nemo`.

FOLDER/parakeet, FOLDER/canary and FOLDER/salm are then weights folders as `talkies pull` leaves them. The clips are the
16 kHz WAV files that they are taught.
"""

from __future__ import annotations

import sys
from pathlib import Path

import canary
import parakeet
import salm
import soundfile
import torch

torch.set_num_threads(1)  # the matrices are small, and threads that wait for each other would take most of the time
target, *clips = (Path(argument) for argument in sys.argv[1:])
heard = [soundfile.read(clip, dtype="float32")[0] for clip in clips]
(target / "parakeet").mkdir(parents=True)
parakeet.make(target / "parakeet" / "parakeet.nemo", heard)
(target / "canary").mkdir()
loss = canary.make(target / "canary" / "canary.nemo", heard)
if loss > 0.05:
    raise SystemExit(f"Canary did not learn its lessons: its loss is {loss:.3f}")
salm.make(target / "salm")
print(f"loss {loss:.4f}")

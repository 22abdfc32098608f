"""SentencePiece tokenizers in the layout that NeMo archives hold. Runs in the environment `nemo`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import sentencepiece

SENTENCES = (
    "the quick brown fox jumps over the lazy dog. hello world, how are you today?",
    "Bonjour le monde! Comment allez-vous? guten Tag, wie geht es dir? buenos dias a todos.",
    "speech recognition is fun. one two three four five six seven eight nine ten.",
    "she sells sea shells by the sea shore. ask me no questions! the end.",
    "Pack my box with five dozen liquor jugs. zebra, quartz, waltz, vex.",
)


def train(folder: Path, sentences: Sequence[str] = SENTENCES, pieces: int = 96) -> None:
    """Write tokenizer.model and vocab.txt to `folder`."""
    folder.mkdir(parents=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*sentences] * 4),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=pieces,
        model_type="bpe",
        character_coverage=1.0,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        bos_id=-1,
        eos_id=-1,
        unk_id=0,
        minloglevel=2,
    )
    made = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    names = [made.id_to_piece(i) for i in range(1, made.get_piece_size())]
    lines = [name[1:] if name.startswith("▁") else f"##{name}" for name in names]
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

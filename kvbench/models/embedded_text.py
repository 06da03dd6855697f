"""The text that the embedded model learns from, made here: sentences about decoding, in two languages, and sums."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

HELD_OUT_SHARE = 0.05  # of all pairs of summands, chosen by their digest

ENGLISH = {
    "subject": (
        ("The cache", "keeps", "the keys and values of every token"),
        ("The cache", "grows by", "one entry per layer at every step"),
        ("The prefill", "reads", "the whole prompt in one pass"),
        ("The prefill", "ends with", "the first new token"),
        ("A decode step", "computes", "one more token for each sequence"),
        ("A decode step", "reads", "all weights of the model once"),
        ("Recomputing", "submits", "all tokens again at every step"),
        ("Recomputing", "costs", "more time as the text grows longer"),
        ("The model", "predicts", "the next token from all the tokens before it"),
        ("Attention", "compares", "the newest query with all earlier keys"),
        ("A longer context", "needs", "more memory for the cache"),
        ("A larger batch", "shares", "the weights between many sequences"),
        ("The first token", "takes", "longer than the tokens after it"),
        ("A fair benchmark", "runs", "both modes in the same blocks"),
    ),
    "when": (
        "during decoding",
        "while the text is written",
        "on every device",
        "in each layer",
        "from the first step to the last",
        "for every sequence in the batch",
    ),
    "why": (
        "so nothing is computed twice",
        "so each step stays short",
        "and the output stays the same",
        "and that is what we measure",
        "but it costs memory",
    ),
}
CHINESE = {
    "sentence": (
        "缓存保存每个词元的键和值",
        "缓存在每一步增长一个位置",
        "预填充一次读完整个提示",
        "预填充给出第一个新词元",
        "每个解码步只计算一个新词元",
        "每个解码步都要读一遍全部权重",
        "不用缓存就要重新计算所有词元",
        "文本越长，重新计算越慢",
        "模型根据前文预测下一个词元",
        "注意力比较新的查询和以前的键",
        "更长的上下文需要更多内存",
        "更大的批次共享同一份权重",
        "公平的测试让两种方式交替运行",
    ),
    "why": ("所以不必重复计算", "所以每一步都很快", "而输出保持不变", "但是需要更多内存", "这就是我们要测量的"),
}
QUESTIONS = (
    ("What does the cache keep?", "It keeps the keys and values of every token."),
    ("What does a decode step compute?", "It computes one more token for each sequence."),
    ("Why is recomputing slow?", "It submits all tokens again at every step."),
    ("What does the cache cost?", "It costs memory that grows with the context."),
    ("缓存保存什么？", "缓存保存每个词元的键和值。"),
    ("为什么重新计算很慢？", "因为每一步都要重新计算所有词元。"),
    ("缓存需要什么代价？", "它需要随上下文增长的内存。"),
)


def is_held_out(a: int, b: int) -> bool:
    """Whether this pair is kept for testing; the same for a+b and b+a."""
    low, high = sorted((a, b))
    digest = hashlib.sha256(f"{low}+{high}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def addition(a: int, b: int) -> str:
    """One sum as text."""
    return f"{a}+{b}={a + b}"


def pair(dice: random.Random, digits: int, *, held_out: bool = False) -> tuple[int, int]:
    """Two summands of this many digits, from the training pairs or from the held-out ones."""
    low, high = 10 ** (digits - 1), 10**digits - 1
    while True:
        a, b = dice.randint(low, high), dice.randint(low, high)
        if is_held_out(a, b) == held_out:
            return a, b


def training_addition(dice: random.Random, share_of_three_digits: float = 0.7) -> str:
    """A sum of two- or three-digit numbers that is not held out."""
    return addition(*pair(dice, 3 if dice.random() < share_of_three_digits else 2))


def english_sentence(dice: random.Random) -> str:
    """A short sentence; the longer half of them says when or why."""
    words = list(dice.choice(ENGLISH["subject"]))
    if dice.random() < 0.3:
        words.append(str(dice.choice(ENGLISH["when"])))
    sentence = " ".join(words)
    if dice.random() < 0.3:
        sentence += f", {dice.choice(ENGLISH['why'])}"
    return sentence + "."


def chinese_sentence(dice: random.Random) -> str:
    """A short sentence; some of them say why."""
    sentence = dice.choice(CHINESE["sentence"])
    if dice.random() < 0.3:
        sentence += f"，{dice.choice(CHINESE['why'])}"
    return sentence + "。"


def question(dice: random.Random) -> str:
    """A question with its answer."""
    asked, answer = dice.choice(QUESTIONS)
    return f"{asked} {answer}"


def document(dice: random.Random, lines: int) -> str:
    """Several sentences, questions and sums, one a line."""
    kinds = (english_sentence, chinese_sentence, question, training_addition)
    return "\n".join(dice.choice(kinds)(dice) for _ in range(lines))


def text_example(dice: random.Random) -> str:
    """A single line most of the time, else a document of up to a dozen lines."""
    return document(dice, 1 if dice.random() < 0.6 else dice.randint(2, 12))


def corpus(dice: random.Random, examples: int) -> Sequence[str]:
    """Text to learn a vocabulary from."""
    return [text_example(dice) for _ in range(examples)]

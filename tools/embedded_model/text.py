"""The text that the embedded model learns from, made here: remarks about decoding in two languages, and sums."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tools.embedded_model.sums import LINE_BREAK, STOP, Piece, sum_pieces


@dataclass(frozen=True)
class Topic:
    """A subject with what it does and what follows from that; any of the one goes with any of the other.

    The first of a list is said more often than the rest, so that greedy decoding has one clear answer.
    """

    subject: str
    predicates: tuple[str, ...]
    consequences: tuple[str, ...]


@dataclass(frozen=True)
class Language:
    """How topics become sentences, and sentences paragraphs."""

    openers: tuple[str, ...]
    topics: tuple[Topic, ...]
    questions: tuple[str, ...]  # each with its answer
    comma: str
    full_stop: str
    space: str  # between a subject and its predicate, and between sentences


ENGLISH = Language(
    openers=("In short", "In practice", "As a rule", "Of course", "In general", "As we know"),
    topics=(
        Topic(
            "the cache",
            (
                "keeps the keys and values of every token",
                "grows by one entry at every step",
                "lives in memory beside the weights",
                "remembers what attention has already computed",
            ),
            ("so nothing is computed twice", "so each step stays short", "and it pays for that with memory"),
        ),
        Topic(
            "recomputing",
            (
                "submits all tokens again at every step",
                "repeats work that was already done",
                "becomes slower as the text grows longer",
                "needs no cache",
            ),
            ("so a long text takes a long time", "and the output stays the same", "but it saves memory"),
        ),
        Topic(
            "the prefill",
            (
                "reads the whole prompt in one pass",
                "fills the cache with the prompt",
                "ends with the first new token",
            ),
            ("so a long prompt delays the first token", "and decoding begins after it"),
        ),
        Topic(
            "a decode step",
            (
                "computes one new token for each sequence",
                "reads all weights of the model once",
                "looks back at every earlier token",
            ),
            ("and its time depends on the memory", "and the new token joins the cache"),
        ),
        Topic(
            "attention",
            (
                "compares the newest query with all earlier keys",
                "mixes the values of the tokens that matter",
                "looks back at every token in the context",
            ),
            ("so it needs the keys of every token", "and its work grows with the context"),
        ),
        Topic(
            "the model",
            (
                "predicts the next token from all the tokens before it",
                "writes one token at a time",
                "ends its answer with a stop token",
            ),
            ("and the text grows step by step", "and every token waits for the one before it"),
        ),
        Topic(
            "a longer context",
            (
                "needs more memory for the cache",
                "gives attention more keys to read",
                "leaves less room for other sequences",
            ),
            ("and every step takes a little longer", "and at some length it no longer fits"),
        ),
        Topic(
            "a larger batch",
            (
                "shares the weights between many sequences",
                "fills the memory with more caches",
                "writes more tokens in the same time",
            ),
            ("and each token costs less", "but every sequence waits a little longer"),
        ),
        Topic(
            "the first token",
            (
                "takes longer than the tokens after it",
                "comes out of the prefill",
                "waits for the whole prompt",
            ),
            ("so we time it on its own", "and the others follow quickly"),
        ),
        Topic(
            "a token",
            ("is a short piece of text", "may be a word, a digit or a part of a character"),
            ("and the model reads nothing else", "so a text is a list of numbers"),
        ),
        Topic(
            "a fair benchmark",
            (
                "runs both modes in the same blocks",
                "warms up before it measures",
                "says how sure it is",
                "checks that both modes write the same tokens",
            ),
            ("so the comparison can be trusted", "and it reports every sample"),
        ),
        Topic(
            "memory",
            (
                "holds the weights and the cache",
                "limits how long the context can be",
                "is read at every step",
            ),
            ("and a faster memory gives faster steps", "and there is never enough of it"),
        ),
    ),
    questions=(
        "What does the cache keep? It keeps the keys and values of every token.",
        "What does the cache cost? It costs memory that grows with the context.",
        "What does a decode step compute? It computes one new token for each sequence.",
        "Why is recomputing slow? It submits all tokens again at every step.",
        "Why does the first token take longer? It waits for the whole prompt.",
        "When does the model stop? It stops when it writes the stop token.",
        "What is a token? It is a short piece of text.",
    ),
    comma=", ",
    full_stop=".",
    space=" ",
)
CHINESE = Language(
    openers=("简单地说", "一般来说", "实际上", "我们知道", "当然", "总之"),
    topics=(
        Topic(
            "缓存",
            (
                "保存每个词元的键和值",
                "在每一步增长一个位置",
                "和权重一起放在内存里",
                "记住注意力已经算过的内容",
            ),
            ("所以不必重复计算", "所以每一步都很快", "代价是更多的内存"),
        ),
        Topic(
            "重新计算",
            ("在每一步提交所有词元", "重复已经做过的工作", "随着文本变长而变慢", "不需要缓存"),
            ("所以长文本需要很长时间", "而输出保持不变", "但是节省内存"),
        ),
        Topic(
            "预填充",
            ("一次读完整个提示", "用提示填满缓存", "给出第一个新词元"),
            ("所以长提示会推迟第一个词元", "然后解码开始"),
        ),
        Topic(
            "每个解码步",
            ("只计算一个新词元", "都要读一遍全部权重", "都会查看以前的所有词元"),
            ("它的时间取决于内存", "然后新词元进入缓存"),
        ),
        Topic(
            "注意力",
            ("比较新的查询和以前的键", "混合重要词元的值", "查看上下文里的每个词元"),
            ("所以它需要每个词元的键", "它的工作随着上下文增长"),
        ),
        Topic(
            "模型",
            ("根据前文预测下一个词元", "一次写出一个词元", "用停止词元结束回答"),
            ("文本一步一步地增长", "每个词元都等待前一个词元"),
        ),
        Topic(
            "更长的上下文",
            ("需要更多内存来放缓存", "让注意力读更多的键", "给其他序列留下更少的空间"),
            ("而每一步都慢一点", "到某个长度就放不下了"),
        ),
        Topic(
            "更大的批次",
            ("让很多序列共享同一份权重", "用更多的缓存填满内存", "在同样的时间里写出更多词元"),
            ("而每个词元更便宜", "但是每个序列多等一会儿"),
        ),
        Topic(
            "第一个词元",
            ("比后面的词元更慢", "来自预填充", "要等待整个提示"),
            ("所以我们单独测量它", "后面的词元很快就来"),
        ),
        Topic(
            "公平的测试",
            ("让两种方式交替运行", "先预热再测量", "说明结果有多可靠", "检查两种方式写出同样的词元"),
            ("所以比较是可信的", "并且报告每个样本"),
        ),
        Topic(
            "内存",
            ("存放权重和缓存", "限制上下文的长度", "在每一步都要读"),
            ("更快的内存带来更快的解码", "而且永远不够用"),
        ),
    ),
    questions=(
        "缓存保存什么？它保存每个词元的键和值。",
        "缓存需要什么代价？它需要随上下文增长的内存。",
        "为什么重新计算很慢？因为每一步都要提交所有词元。",
        "为什么第一个词元更慢？因为它要等待整个提示。",
        "模型什么时候停止？它写出停止词元后停止。",
        "什么是词元？词元是一小段文本。",
    ),
    comma="，",
    full_stop="。",
    space="",
)


def sentence(dice: random.Random, language: Language) -> str:
    """A sentence about decoding."""
    topic = dice.choice(language.topics)
    text = f"{topic.subject}{language.space}{_first_more_often(dice, topic.predicates)}"
    if dice.random() < 0.2:
        text = f"{dice.choice(language.openers)}{language.comma}{text}"
    if dice.random() < 0.7:
        text += f"{language.comma}{_first_more_often(dice, topic.consequences)}"
    return text[0].upper() + text[1:] + language.full_stop


def paragraph(dice: random.Random, language: Language, sentences: int) -> str:
    """Sentences and questions of one language, in one line."""
    return language.space.join(_remark(dice, language) for _ in range(sentences))


def document(dice: random.Random) -> list[Piece]:
    """What ends with one stop token: mostly one remark or sum, else a paragraph or up to twelve lines."""
    roll = dice.random()
    if roll < 0.65:
        return _line(dice)
    if roll < 0.8:
        return [Piece(paragraph(dice, _language(dice), dice.randint(2, 8)))]
    lines = [_line(dice) for _ in range(dice.randint(2, 12))]
    return [piece for line in lines for piece in (*line, LINE_BREAK)][:-1]


def documents(dice: random.Random) -> Iterator[Piece]:
    """Endless documents; the text behind a stop token goes on in a new line."""
    while True:
        yield from (*document(dice), STOP, LINE_BREAK)


def _line(dice: random.Random) -> list[Piece]:
    return sum_pieces(dice) if dice.random() < 0.25 else [Piece(_remark(dice, _language(dice)))]


def _remark(dice: random.Random, language: Language) -> str:
    return dice.choice(language.questions) if dice.random() < 0.15 else sentence(dice, language)


def _language(dice: random.Random) -> Language:
    return dice.choice((ENGLISH, CHINESE))


def _first_more_often(dice: random.Random, options: Sequence[str]) -> str:
    return dice.choices(options, weights=[2, *[1] * (len(options) - 1)])[0]

"""Pages of the reference: one a floor, from the bottom up, and the command line."""

import re
from collections.abc import Iterator

from markdown import block, code, link, table
from source_code import modules
from words import label, note

from inkwash.reading import Text
from inkwash.reading.language import Language, say

OVERVIEW = "reference/index.md"
COMMANDS = "reference/commands.md"
FLOORS = {
    "errors": Text(en="what goes wrong: wrong use, failure, unknown names", zh="出错的方式：误用、失败、未知名称"),
    "atomic": Text(en="files that are there whole or not at all", zh="文件要么完整写入，要么不存在"),
    "memory": Text(en="how much memory there is and is used, what fits into it", zh="有多少内存、用了多少、能容纳什么"),
    "corruption": Text(en="how data is destroyed; all randomness; posteriors", zh="数据如何被破坏；全部随机性；后验"),
    "reading": Text(en="the reading list as data", zh="作为数据的阅读清单"),
    "operators": Text(en="how measurements are made, and their noise", zh="观测如何得到，及其噪声"),
    "nets": Text(en="networks, and adapters for those of others", zh="网络，以及其他库中网络的适配器"),
    "denoise": Text(en="what a network believes the clean data was", zh="网络认为干净数据是什么"),
    "sampling": Text(en="how one walks back: grids, solvers, the loop, guidance", zh="如何走回去：网格、求解器、引导"),
    "data": Text(en="folders, archives and lists of images", zh="图像文件夹、压缩包与列表"),
    "training": Text(en="the loop, averages of the weights, run folders", zh="训练循环、权重平均、运行目录"),
    "evaluation": Text(
        en="fidelity, coverage, copies, faithfulness to masks", zh="逼真度、覆盖度、复制检测、掩膜一致性"
    ),
    "systems": Text(en="one paper, one file", zh="一篇论文，一个文件"),
    "api": Text(en="the public functions and what they return", zh="公开函数及其返回值"),
}
# The public functions first, as one meets them in use.
_FIRST = [
    "doctor", "demo", "describe", "train", "runs", "sample", "evaluate", "restore", "edit", "tune", "reading_list",
    "show", "cite",
]  # fmt: skip


def pages(language: Language) -> Iterator[tuple[str, str]]:
    """Path and Markdown of each."""
    rows = [
        (link(code(f"inkwash.{floor}"), path(floor), OVERVIEW), say(text, language)) for floor, text in FLOORS.items()
    ]
    rows.append((link(code("inkwash"), COMMANDS, OVERVIEW), label("commands", language)))
    head = [f"# {label('floors', language)}", label("reference lead", language)]
    yield OVERVIEW, "\n\n".join([*head, table([label("floor", language), label("holds", language)], rows)])
    for floor, text in FLOORS.items():
        yield path(floor), "\n\n".join(_floor(floor, say(text, language), language))
    yield COMMANDS, "\n\n".join([f"# {label('commands', language)}", *note("reference", language), _commands()])


def path(floor: str) -> str:
    """Where the page of a floor lies."""
    return f"reference/{floor}.md"


def _floor(floor: str, holds: str, language: Language) -> Iterator[str]:
    yield f"# inkwash.{floor}"
    yield f"{holds[0].upper()}{holds[1:]}{'。' if language == 'zh' else '.'}"
    yield from note("reference", language)
    for module in sorted(modules(floor), key=_place) if floor == "api" else modules(floor):
        yield f"::: {module}"


def _place(module: str) -> int:
    name = module.rpartition(".")[2]
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)


def _commands() -> str:
    from inkwash.cli.app import app

    text = app.generate_docs(output_format="markdown")
    # What stands above the first verb is a list of the verbs; examples are lines that begin with a prompt.
    verbs = text[text.index("## inkwash ") :].replace("```console", "```sh")
    return re.sub(r"(?m)(^\$ .*\n?)+", lambda found: block(re.findall(r"\$ (.*)", found[0]), "sh") + "\n\n", verbs)

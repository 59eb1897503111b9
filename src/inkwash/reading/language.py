"""Which of the two languages to speak, and the words of the pages in both."""

import os
from collections.abc import Mapping
from typing import Literal

from inkwash.errors import WrongUse
from inkwash.reading.schema import Text

Language = Literal["en", "zh"]


def choose(said: str | None = None, environment: Mapping[str, str] = os.environ) -> Language:
    """The language that was said, else that of `LANG`, else English.

    Raises:
        WrongUse: what was said is neither en nor zh.
    """
    if said is None:
        return "zh" if environment.get("LANG", "").lower().startswith("zh") else "en"
    if said == "en":
        return "en"
    if said == "zh":
        return "zh"
    raise WrongUse(f"the languages are en and zh, not {said!r}")


def say(text: Text, language: Language) -> str:
    """`text` in this language."""
    return text.zh if language == "zh" else text.en


def _text(en: str, zh: str) -> Text:
    return Text(en=en, zh=zh)


WORDS: Mapping[str, Text] = {
    "year": _text("year", "年份"),
    "key": _text("key", "键"),
    "runs": _text("runs", "可运行"),
    "topics": _text("topics", "主题"),
    "title": _text("title", "标题"),
    "whole": _text("yes", "是"),
    "part": _text("in part", "部分"),
    "none": _text("no", "否"),
    "survey": _text("survey", "综述"),
    "paper": _text("paper", "论文"),
    "tool": _text("tool", "工具"),
    "tutorial": _text("tutorial", "教程"),
    "notebook": _text("notebook", "笔记本"),
    "medical": _text("medical", "医学"),
    "added": _text("added by us", "本项目增补"),
    "solver": _text("solver", "求解器"),
    "corruption": _text("corruption", "加噪过程"),
    "denoiser": _text("denoiser", "去噪器"),
    "sampler": _text("sampler", "采样器"),
    "condition": _text("condition", "条件"),
    "changes": _text("What it changes", "改变了什么"),
    "run it": _text("Run it", "如何运行"),
    "uncovered": _text("Not covered yet", "尚未涵盖"),
    "tree": _text("Its field, and what of it runs here", "领域分类，以及其中可运行的部分"),
    "missing": _text("missing", "缺少"),
    "stands on": _text("Stands on", "基于"),
    "stood on": _text("Taken further by", "后续工作"),
    "corrections": _text("Corrected from the seed list", "对原清单的更正"),
    "card": _text("Claimed and measured", "论文所报与实测"),
    "claimed": _text("claimed", "论文所报"),
    "measured": _text("measured", "实测"),
    "metric": _text("metric", "指标"),
    "data": _text("data", "数据"),
    "value": _text("value", "数值"),
    "source": _text("source", "来源"),
    "floor": _text("floor", "下限"),
    "ceiling": _text("ceiling", "上限"),
    "why": _text("Why they differ", "差异原因"),
    "measured by": _text("Measured by", "测量方式"),
    "unmeasured": _text(
        "Nothing was measured yet: inkwash reproduce {system}", "尚无实测：inkwash reproduce {system}"
    ),
    "options": _text("Options (--set name=value)", "选项（--set name=value）"),
    "training options": _text("Options of the training (--set name=value)", "训练选项（--set name=value）"),
    "default": _text("default", "默认"),
    "preset": _text("--set preset={preset} means", "--set preset={preset} 相当于"),
    "more": _text("More about one of them: inkwash show KEY", "查看其中一条：inkwash show 键"),
    "nothing": _text("Nothing on the list fits.", "清单中没有符合条件的条目。"),
    "counted": _text("{count} entries, {runs} with something that runs", "共{count}条，其中{runs}条有可运行的内容"),
    "from python": _text("from Python", "在Python中"),
    "others": _text("and others", "等"),
    "order": _text("order", "阶数"),
    "evaluations": _text("evaluations a step", "每步求值次数"),
    "stochastic": _text("stochastic", "随机"),
    "deterministic": _text("deterministic", "确定性"),
}


def word(name: str, language: Language, **parts: object) -> str:
    """A word of the pages, its `{parts}` filled in."""
    return say(WORDS[name], language).format(**parts)

"""The words of the map in both languages, beside those that it shares with the other pages."""

from collections.abc import Mapping

from inkwash.reading.schema import Text


def _text(en: str, zh: str) -> Text:
    return Text(en=en, zh=zh)


PARTS: Mapping[str, Text] = {
    "corruption": _text(
        "How data is destroyed: the noise, and how much of it at which time.",
        "数据如何被破坏：加什么噪声，在哪个时刻加多少。",
    ),
    "denoiser": _text(
        "What a network believes the clean data was: the network, what it predicts, and how its loss is weighted.",
        "网络所推断的干净数据：网络结构、预测目标与损失加权。",
    ),
    "sampler": _text(
        "How one walks back from noise to data: a solver and a grid of times.",
        "如何从噪声走回数据：求解器与时间网格。",
    ),
    "condition": _text(
        "What steers the walk: masks, classes, guidance.",
        "引导生成的信息：掩膜、类别与引导。",
    ),
}
AROUND = _text(
    "What stands around a model: data, training, and the figures that judge it.",
    "模型之外：数据、训练与评价指标。",
)

MAP_WORDS: Mapping[str, Text] = {
    "page": _text("A map of diffusion models", "扩散模型图谱"),
    "surveys": _text("Surveys", "综述"),
    "families": _text("Families", "方法与应用"),
    "papers": _text("Papers", "论文"),
    "parts": _text("Parts", "组成部分"),
    "systems": _text("Systems", "系统"),
    "tools": _text("Tools", "工具"),
    "tutorials": _text("Tutorials", "教程"),
    "notebooks": _text("Notebooks", "笔记本"),
    "family": _text("family", "方法与应用"),
    "part": _text("part", "组成部分"),
    "piece": _text("piece of the library", "库中组件"),
    "system": _text("system", "系统"),
    "around": _text("Around the model", "模型之外"),
    "search": _text("Search titles, authors, words", "搜索标题、作者、关键词"),
    "kind": _text("Kind", "类型"),
    "any kind": _text("every kind", "全部类型"),
    "years": _text("Years", "年份"),
    "year from": _text("First year", "起始年份"),
    "year to": _text("Last year", "截止年份"),
    "runs today": _text("runs today", "可运行"),
    "clear": _text("Clear", "清除"),
    "filters": _text("Search and filters", "搜索与筛选"),
    "columns": _text("Columns", "栏目"),
    "details": _text("Details", "详情"),
    "close": _text("Back to the whole map", "返回全图"),
    "whole": _text("runs", "可运行"),
    "half": _text("runs in part", "部分可运行"),
    "none": _text("doesn't run yet", "尚不可运行"),
    "legend": _text("Legend", "图例"),
    "how": _text("How to read it", "如何阅读"),
    "how text": _text(
        "From left to right: surveys, the families that they cover, papers, the parts of a diffusion model that the "
        "papers change, and the systems that can be trained. What runs today is in ink, what doesn't is in wash. "
        "Choose anything: what belongs to it gathers at the top, and the way to a command opens here.",
        "从左到右依次为：综述、所涉及的方法与应用、论文、论文所改变的扩散模型组成部分，以及可训练的系统。"
        "今天能运行的用浓墨，尚不能运行的用淡墨。任选其一，相关内容便汇聚到顶部，此处则给出通往命令的路径。",
    ),
    "keyboard": _text("Keyboard", "键盘操作"),
    "keyboard text": _text(
        "Arrow keys move, Enter chooses, Escape goes back to the whole map, / searches.",
        "方向键移动，回车键选中，Esc键返回全图，/键搜索。",
    ),
    "start": _text("Begin here", "由此开始"),
    "counts": _text("In this map", "图中共有"),
    "counted runs": _text("With something that runs", "有可运行内容的文献"),
    "shown": _text("{shown} of {all} shown", "显示{all}条中的{shown}条"),
    "nothing": _text("Nothing fits. Clear the search or a filter.", "没有符合条件的内容，请清除搜索或筛选条件。"),
    "selected": _text("{name}: {count} related", "{name}：相关{count}项"),
    "open": _text("Read it", "阅读原文"),
    "copy": _text("Copy", "复制"),
    "copied": _text("Copied", "已复制"),
    "leaf runs": _text("{runs} of {all} leaves run", "{all}个叶节点中{runs}个可运行"),
    "entries run": _text("{runs} of {all} run", "{all}条中{runs}条可运行"),
    "in surveys": _text("In the surveys", "见于综述"),
    "behind": _text("Read about it", "相关文献"),
    "changed by": _text("Changed by", "改变这一部分的文献"),
    "pieces": _text("Pieces of the library", "库中组件"),
    "bar": _text("how much of it runs", "可运行的比例"),
    "taken by": _text("Goes into", "可用于"),
    "takes": _text("Can be put together from, and measured by", "可选用的组件与评价指标"),
    "more": _text("In the terminal", "在终端中"),
    "capitals": _text(
        "Words in capitals stand for your own: DATA a folder of images, RUN a trained run.",
        "大写单词请换成自己的内容：DATA为图像文件夹，RUN为训练好的模型目录。",
    ),
    "footer": _text("Inkwash {version}. This file needs no network.", "Inkwash {version}。本文件无需联网。"),
    "script": _text("The map is drawn by a script, and scripts are switched off.", "图谱由脚本绘制，而脚本已被禁用。"),
}

"""The words of the pages that no other face of the library needs."""

from inkwash.reading import Text
from inkwash.reading.language import Language, say

WORDS = {
    "home": Text(en="Inkwash", zh="首页"),
    "three words": Text(en="Three words", zh="三个词"),
    "installation": Text(en="Installation", zh="安装"),
    "masks": Text(en="Masks", zh="掩膜"),
    "restoration": Text(en="Restoration", zh="复原与编辑"),
    "posteriors": Text(en="Posterior samplers, measured", zh="后验采样器的测量"),
    "few steps": Text(en="Few steps", zh="少步采样"),
    "memory": Text(en="Memory", zh="内存"),
    "several machines": Text(en="Several machines", zh="多机训练"),
    "list": Text(en="The reading list", zh="阅读清单"),
    "overview": Text(en="Overview", zh="总览"),
    "surveys": Text(en="Surveys", zh="综述"),
    "papers": Text(en="Papers", zh="论文"),
    "tools": Text(en="Tools, tutorials, notebooks", zh="工具、教程与笔记本"),
    "systems": Text(en="Systems", zh="系统"),
    "all systems": Text(en="Systems and solvers", zh="系统与求解器"),
    "laws": Text(en="The laws", zh="定律"),
    "architecture": Text(en="Architecture", zh="架构"),
    "reference": Text(en="Reference", zh="参考"),
    "floors": Text(en="In reading order", zh="阅读顺序"),
    "commands": Text(en="The command line", zh="命令行"),
    "contributing": Text(en="Contributing", zh="参与贡献"),
    "changelog": Text(en="Changelog", zh="更新日志"),
    "project": Text(en="Project", zh="项目"),
    "tagline": Text(
        en="The diffusion-model literature, made runnable: read it, train it, sample it, compare it fairly.",
        zh="让扩散模型的文献可以运行：读得到、训得动、采得出、比得公平。",
    ),
    "copyright": Text(
        en="Inkwash is free software under the Apache License 2.0. It is not a medical device.",
        zh="Inkwash是自由软件，采用Apache License 2.0许可，不是医疗器械。",
    ),
    "list lead": Text(
        en="{count} things to read about diffusion models, surveys and medical imaging first, summarised in our own "
        "words. {runs} of them have something that runs here today: those are in ink, the others in wash.",
        zh="关于扩散模型的{count}条文献与资源，以综述和医学影像为主，摘要均为自行撰写。其中{runs}条现在就有可以运行的内容："
        "能运行的用浓墨，尚不能运行的用淡墨。",
    ),
    "list how": Text(
        en="In the terminal: `inkwash list`, `inkwash show KEY`, `inkwash cite KEY`. As data: `inkwash list --json`, "
        "whose schema is [list.schema.json](../list.schema.json).",
        zh="终端中可用`inkwash list`、`inkwash show KEY`与`inkwash cite KEY`；数据形式为`inkwash list --json`，"
        "其格式见[list.schema.json](../list.schema.json)。",
    ),
    "page lead": Text(
        en="The newest first; the name after each title is what `inkwash show` and `inkwash cite` take.",
        zh="按年份由新到旧排列；每条末尾的键可供`inkwash show`与`inkwash cite`使用。",
    ),
    "whole runs": Text(en="runs", zh="可运行"),
    "part runs": Text(en="runs in part", zh="部分可运行"),
    "none runs": Text(en="nothing runs yet", zh="尚不可运行"),
    "tree counts": Text(en="{runs} of {leaves} leaves", zh="{leaves}个叶节点中有{runs}个"),
    "system": Text(en="system", zh="系统"),
    "what": Text(en="what it does", zh="作用"),
    "option": Text(en="option", zh="选项"),
    "meaning": Text(en="meaning", zh="含义"),
    "about": Text(en="About", zh="源文件说明"),
    "options": Text(en="Options", zh="选项"),
    "options lead": Text(
        en="Set with `--set name=value` or in a YAML file. `quick` is the default; `--set preset=paper` is the "
        "published setting. A dash means: as in `quick`.",
        zh="用`--set 名称=值`或YAML文件设置。默认为`quick`；`--set preset=paper`为论文设置；短横表示与`quick`相同。"
        "选项说明为英文。",
    ),
    "of training": Text(en="Of the training", zh="训练"),
    "of the system": Text(en="Of the system", zh="系统"),
    "code": Text(en="code", zh="代码"),
    "solvers": Text(en="Solvers", zh="求解器"),
    "solvers lead": Text(
        en="Each declares its order and [the laws](../laws.md) measure it. `--sampler NAME` uses the grid below, "
        "`--sampler NAME@GRID` another: {grids}.",
        zh="每种求解器都声明其阶数，并由[定律](../laws.md)实测。`--sampler 名称`使用下列网格，"
        "`--sampler 名称@网格`可换用：{grids}。",
    ),
    "grid": Text(en="grid", zh="网格"),
    "systems lead": Text(
        en="A system is one paper in one file: it puts a corruption, a denoiser and a sampler together.",
        zh="一个系统就是一篇论文、一个文件：把加噪过程、去噪器和采样器组合起来。",
    ),
    "reference lead": Text(
        en="The floors of the house from the bottom up, each module after those that it imports: read in this order, "
        "nothing is used before it was explained. Imports go down only.",
        zh="自下而上逐层排列，每个模块都排在它所导入的模块之后：按此顺序阅读，任何概念都先说明后使用。导入只能向下。",
    ),
    "floor": Text(en="floor", zh="层"),
    "holds": Text(en="holds", zh="内容"),
    "work": Text(en="work", zh="工作"),
    "training": Text(en="training", zh="训练"),
    "sampling": Text(en="sampling", zh="采样"),
    "way": Text(en="by", zh="方式"),
    "pace": Text(en="images a second", zh="每秒图像数"),
    "faster": Text(en="times as fast", zh="加速比"),
    "efficiency": Text(en="efficiency", zh="效率"),
    "worked": Text(en="processor time an image", zh="每张图像的处理器时间"),
    "scaling lead": Text(
        en="Polyp-DDPM in its quick setting, 64 × 64, batch 16 over all processes, float32, on two processor cores; "
        "gloo between the processes. Efficiency is what is had of two cores, beside one process with one thread. It "
        "was not measured on GPUs or between real hosts, where the network between them decides.",
        zh="Polyp-DDPM的quick设置，64 × 64，所有进程合计批量16，float32，两个处理器核心，进程之间通过gloo通信。"
        "效率是与单进程单线程相比，两个核心实际发挥的比例。尚未在GPU上或真实的多台主机之间测量；后者取决于主机之间的网络。",
    ),
    "scaling how": Text(
        en="Medians of {rounds} rounds, with the quartiles of the ratio: `python benchmarks/scaling.py`, bundled "
        "retinas, seed 0, {device}, PyTorch {torch}, {date}. The machine was shared: its load before a round was "
        "{least} to {most}.",
        zh="{rounds}轮的中位数，括号内为加速比的四分位数：`python benchmarks/scaling.py`，随附的视网膜图像，种子0，"
        "{device}，PyTorch {torch}，{date}。机器与他人共用，各轮开始前的负载为{least}至{most}。",
    ),
    "scaling memory": Text(
        en="Memory, by the same command: to train a transformer of {weights} million weights, each of two processes "
        "needs {whole} MiB, and {shared} MiB with `shard=true`. Half of the state is saved; the largest part is put "
        "together at a time, and in this network that is a third of the weights.",
        zh="内存（同一命令）：训练一个有{ten_thousands}万权重的Transformer，两个进程各需{whole} MiB；"
        "设置`shard=true`后各需{shared} MiB。"
        "状态减少一半，但计算时要临时拼出最大的一部分，在这个网络中约占全部权重的三分之一。",
    ),
    "filter": Text(en="Words in a title, a name, a key", zh="标题、作者或键中的词"),
    "any topic": Text(en="every topic", zh="全部主题"),
    "only medical": Text(en="medical", zh="医学"),
    "only runnable": Text(en="runs", zh="可运行"),
}

# What the Chinese pages say above text that there is in English only.
NOTES = {
    "about": "以下为源文件的英文说明，包括与论文的不同之处。",
    "reference": "以下内容由源代码中的说明生成，为英文。",
    "text": "以下为英文原文。",
}


def label(name: str, language: Language, **parts: object) -> str:
    """A word of the pages, its `{parts}` filled in."""
    return say(WORDS[name], language).format(**parts)


def note(name: str, language: Language) -> list[str]:
    """A paragraph of `NOTES`, on Chinese pages."""
    return [f"*{NOTES[name]}*"] if language == "zh" else []

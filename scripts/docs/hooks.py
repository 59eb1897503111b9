"""What MkDocs is told beyond mkdocs.yml: formulas become MathML while building, and each page knows its twin."""

import html
import logging
import re
from typing import Any

import jieba
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.pages import Page

# The search plugin cuts Chinese into words with it: it is told those of this field, and not to tell of its dictionary.
jieba.setLogLevel(logging.WARNING)
_TERMS = "扩散模型 加噪 加噪过程 去噪 去噪器 采样器 求解器 掩膜 潜空间 得分 信噪比 无分类器引导"
for term in _TERMS.split():
    jieba.add_word(term)

_LOG = get_plugin_logger("formulas")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>([,.;:，。、；：）)]*)', re.DOTALL)
# Where the converter takes a relation for a letter, a bar for one that grows, and names a width that no browser knows.
_MENDED = {
    "<mi>&#x0007E;</mi>": "<mo>&#x0223C;</mo>",
    "<mo>&#x02016;</mo>": '<mo stretchy="false" lspace="0" rspace="0">&#x02016;</mo>',
    "negativethinmathspace": "-0.167em",
}


def on_page_content(content: str, *, page: Page, **_: Any) -> str:
    """TeX between dollars, as MathML: browsers draw it without a script."""
    return _FORMULA.sub(lambda found: _mathml(found, page), content)


def _mathml(found: re.Match[str], page: Page) -> str:
    _, bracket, source, after = found.groups()
    tex = html.unescape(source).strip()
    drawn = convert(tex, display="inline" if bracket == "(" else "block")
    if "<mi>\\" in drawn:
        # What the converter does not know it copies.
        _LOG.warning(f"{page.file.src_uri}: not understood: {tex}")
    for wrong, right in _MENDED.items():
        drawn = drawn.replace(wrong, right)
    if bracket == "[":
        return f'<div class="formula">{drawn}</div>{after}'
    return f'<span class="unbroken">{drawn}{after}</span>'


def on_page_context(context: dict[str, Any], *, page: Page, config: MkDocsConfig, **_: Any) -> dict[str, Any]:
    """A link to the same page in the other language; the Chinese site lies in `zh/` of the English one."""
    up = "../" * page.url.count("/")
    english = config.theme["language"] == "en"
    context["twin"] = (
        {"name": "中文", "language": "zh", "href": f"{up}zh/{page.url}"}
        if english
        else {"name": "English", "language": "en", "href": f"../{up}{page.url}"}
    )
    return context

"""A hook of MkDocs: links as GitHub reads them also lead somewhere on the site.

The pages beside the folder docs/ (README.md and its like) become pages of the site.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# In the repository -> on the site.
MOVED = {
    "README.md": "readme.md",
    "README.zh-CN.md": "zh/readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "LICENSE": "license.md",
    "etc/c.yaml": "config-sample.md",
}
FROM = {site: source for source, site in MOVED.items()}
LINK = re.compile(r"\[([^\]\n]*)\]\((?![a-z]+:)([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages beside docs/."""
    for source, site in MOVED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if not source.endswith(".md"):
            language = source.rpartition(".")[2] if "." in source else "text"
            text = f"# {source}\n\n```{language}\n{text}```\n"
        files.append(File.generated(config, site, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites links to what has another place on the site."""
    site = page.file.src_uri
    source = FROM.get(site, f"docs/{site}")

    def rewritten(link: re.Match[str]) -> str:
        words, path, anchor = link.groups(default="")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if target not in MOVED and not target.startswith("docs/") and (ROOT / target).exists():
            return words  # a file of the repository that the site does not show
        there = MOVED.get(target, target.removeprefix("docs/"))
        return f"[{words}]({posixpath.relpath(there, posixpath.dirname(site) or '.')}{anchor})"

    return LINK.sub(rewritten, markdown)

"""What can be read, and what has a name: computed by the browser itself."""

from pathlib import Path
from typing import Any

from tests.deploy.dashboard.browser import Browser

CONTRAST = Path(__file__).with_name("contrast.js").read_text()
NEED_A_NAME = frozenset(
    [
        "button",
        "link",
        "textbox",
        "searchbox",
        "combobox",
        "checkbox",
        "img",
        "image",
        "progressbar",
        "table",
        "region",
        "navigation",
        "heading",
    ]
)


def nameless(browser: Browser) -> list[dict[str, Any]]:
    """Nodes of the accessibility tree that need a name and have none."""
    nodes = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    seen = [node for node in nodes if not node.get("ignored")]
    roles = [(node["role"]["value"], node.get("name", {}).get("value", ""), node) for node in seen]
    assert {"heading", "main"} <= {role for role, _, _ in roles}
    return [node for role, name, node in roles if role in NEED_A_NAME and not name.strip()]


def faint(browser: Browser) -> list[str]:
    """Texts whose contrast is below WCAG 2.1 AA: 4.5, or 3 where they are large.

    Source: https://www.w3.org/TR/WCAG21/#contrast-minimum
    """
    return list(browser.run(CONTRAST))

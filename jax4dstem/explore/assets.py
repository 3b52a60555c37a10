"""The page's own files: one ES module, one style sheet, and the two pages around them."""

from importlib.resources import files

SERVED = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><link rel="icon" href="data:,"><link rel="stylesheet" href="explorer.css">
</head>
<body>
<script type="module">
import {{ mount, serverHost }} from "./explorer.js";
mount(document.body, serverHost());
</script>
</body>
</html>
"""
OFFLINE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><link rel="icon" href="data:,"><style>{style}</style>
</head>
<body>
{blobs}
<script type="module">
{module}
mount(document.body, fileHost());
</script>
</body>
</html>
"""


def asset(name: str) -> str:
    """Text of ``explorer.js`` or ``explorer.css``."""
    return files("jax4dstem.explore").joinpath("page", name).read_text(encoding="utf-8")

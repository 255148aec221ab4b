"""The new names of renamed modules that authors of methods import."""

import ast

FOLDERS = ("harness", "methods", "reports", "suites")
NEW_NAMES = {
    "harness.experts": "bsrbench.harness.model.experts",
    "harness.grouped": "bsrbench.harness.model.grouped_products",
    "harness.vit": "bsrbench.harness.model.vit",
    "methods.parts.again": "bsrbench.methods.parts.rerun_block",
    "methods.parts.carried": "bsrbench.methods.parts.block_side_data",
    "methods.parts.compress": "bsrbench.methods.parts.packed_modules",
    "methods.parts.compressed": "bsrbench.methods.parts.packed_operators",
    "methods.parts.compressed_attention": "bsrbench.methods.parts.packed_attention",
    "methods.parts.draws": "bsrbench.methods.parts.random_draws",
    "methods.parts.experts": "bsrbench.methods.parts.packed_experts",
    "methods.parts.extend": "bsrbench.methods.parts.extend_module",
    "methods.parts.freeze": "bsrbench.methods.parts.trained_parameters",
    "methods.parts.fresh": "bsrbench.methods.parts.new_modules",
    "methods.parts.levels": "bsrbench.methods.parts.gelu_levels",
    "methods.parts.merge": "bsrbench.methods.parts.token_merging",
    "methods.parts.mlp": "bsrbench.methods.parts.recomputed_gelu",
    "methods.parts.options": "bsrbench.methods.parts.option_checks",
    "methods.parts.pruned": "bsrbench.methods.parts.pruned_tensors",
    "methods.parts.saved": "bsrbench.methods.parts.saved_tensors",
    "methods.parts.slim": "bsrbench.methods.parts.narrow_weights",
    "methods.parts.tokens": "bsrbench.methods.parts.token_dropping",
}


def new_name(module: str) -> str:
    """Return the new name of a module: ``harness.vit`` is now ``bsrbench.harness.model.vit``."""
    return NEW_NAMES.get(module, f"bsrbench.{module}")


def old_imports(source: str) -> list[str]:
    """Return the replacement for each import of an old name in a file.

    Args:
        source: the text of a Python file.

    Returns:
        Lines like ``line 4: harness.vit is called bsrbench.harness.model.vit``.
    """
    advice = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inside = (f"{node.module}.{alias.name}" for alias in node.names)
            modules = [name for name in inside if name in NEW_NAMES] or [node.module]
        else:
            continue
        advice += [
            f"line {node.lineno}: {name} is called {new_name(name)}"
            for name in modules
            if name.split(".")[0] in FOLDERS
        ]
    return advice

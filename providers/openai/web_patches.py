"""The delta encoding of ChatGPT web: JSON patches on a message.

Operations are those of JSON Patch (RFC 6902) and `append`, `truncate` and `patch`.
Source: recorded answers and public clients of chatgpt.com.
"""

from typing import Any

PATCH_ERRORS = (KeyError, IndexError, TypeError, ValueError, AttributeError)


def apply(root: Any, path: str, operation: str, value: Any) -> Any:
    """Applies one patch and returns the root; containers are changed in place.

    Raises one of `PATCH_ERRORS` for a patch that does not fit.
    """
    if operation == "patch":
        for part in value:
            root = apply(root, part.get("p", ""), part.get("o", ""), part.get("v"))
        return root
    if path == "":
        return _changed(root, operation, value) if operation != "remove" else None
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]
    holder = root
    for part in parents:
        holder = holder[int(part)] if isinstance(holder, list) else holder[part]
    if isinstance(holder, list):
        at = len(holder) if last == "-" else int(last)
        if operation == "add":
            holder.insert(at, value)
        elif operation == "remove":
            del holder[at]
        elif at == len(holder) and operation in ("replace", "append"):
            holder.append(value)
        else:
            holder[at] = _changed(holder[at], operation, value)
    elif operation == "remove":
        del holder[last]
    else:
        holder[last] = _changed(holder.get(last), operation, value)
    return root


def _changed(old: Any, operation: str, value: Any) -> Any:
    match operation:
        case "add" | "replace":
            return value
        case "append":
            if old is None:
                return value
            return {**old, **value} if isinstance(old, dict) else old + value
        case "truncate":
            return old[: int(value)]
    raise ValueError(operation)

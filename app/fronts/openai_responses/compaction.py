"""A conversation as one summary, by any model. Protocol sheet: front-responses, 6.4."""

QUESTION = (
    "Sum up the conversation so far for yourself: whoever goes on with it will see your summary "
    "and nothing else of it. Tell what the user wants and has decided, what was done and found "
    "out, the names of files, functions, commands and values that matter, and what is still to be "
    "done. Answer with the summary alone."
)

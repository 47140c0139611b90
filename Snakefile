"""knowcap: how many bits of knowledge a language model stores. See workflow/Snakefile."""


include: "workflow/Snakefile"


# An included file does not set the default target.
if not is_module():
    workflow.default_target = "all"

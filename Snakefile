"""knowcap: how many bits of knowledge a language model stores. See workflow/Snakefile."""


include: "workflow/Snakefile"

"""The data doctor: what is wrong, doubtful or worth knowing about labelled rows, before a model learns from them.

    files ──splits──► Dataset ──rules──► Finding, Finding, … ──terminal, page──► people
                         └──────repair──► Repairs ──copies──► cleaned files beside the originals

`rules.RULES` is the table of everything it looks at; each row's function stands in the file of its subject.
"""

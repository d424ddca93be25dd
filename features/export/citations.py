"""BibTeX of the corpora that merloco has parsers for, by parser."""

from __future__ import annotations

CITATIONS = {
    "iemocap": """@article{busso2008iemocap,
  author = {Busso, Carlos and Bulut, Murtaza and Lee, Chi-Chun and Kazemzadeh, Abe and Mower, Emily and Kim, Samuel and
            Chang, Jeannette N. and Lee, Sungbok and Narayanan, Shrikanth S.},
  title = {{IEMOCAP}: Interactive emotional dyadic motion capture database},
  journal = {Language Resources and Evaluation},
  volume = {42},
  number = {4},
  pages = {335--359},
  year = {2008}
}""",
    "meld": """@inproceedings{poria2019meld,
  author = {Poria, Soujanya and Hazarika, Devamanyu and Majumder, Navonil and Naik, Gautam and Cambria, Erik and
            Mihalcea, Rada},
  title = {{MELD}: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations},
  booktitle = {Proceedings of the 57th Annual Meeting of the Association for Computational Linguistics},
  pages = {527--536},
  year = {2019}
}""",
    "mosei": """@inproceedings{zadeh2018multimodal,
  author = {Zadeh, AmirAli Bagher and Liang, Paul Pu and Poria, Soujanya and Cambria, Erik and Morency, Louis-Philippe},
  title = {Multimodal Language Analysis in the Wild: {CMU-MOSEI} Dataset and Interpretable Dynamic Fusion Graph},
  booktitle = {Proceedings of the 56th Annual Meeting of the Association for Computational Linguistics},
  pages = {2236--2246},
  year = {2018}
}""",
    "afew": """@article{dhall2012collecting,
  author = {Dhall, Abhinav and Goecke, Roland and Lucey, Simon and Gedeon, Tom},
  title = {Collecting Large, Richly Annotated Facial-Expression Databases from Movies},
  journal = {IEEE MultiMedia},
  volume = {19},
  number = {3},
  pages = {34--41},
  year = {2012}
}""",
}

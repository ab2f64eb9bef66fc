"""The answers of a server, for its OpenAPI page."""

from pydantic import BaseModel, Field


class Answer(BaseModel):
    """The answer about one photograph."""

    photo: str = Field(description="the name of its file, as it was sent")
    label: str = Field(description="the likeliest class, or the word for none of them")
    accepted: bool = Field(description="whether it is taken for one of the classes")
    probabilities: dict[str, float] = Field(description="of each class, the likeliest first")
    known: float | None = Field(description="how well it fits any class; null where nothing is refused")
    set: list[str] | None = Field(
        description="classes that may be right; null where too few photographs were learned from"
    )


class Answers(BaseModel):
    """The answers about the photographs of a request, in their order."""

    answers: list[Answer]


class Classes(BaseModel):
    """The known classes, and the answer for an image of none of them."""

    classes: list[str]
    unknown: str


class Health(BaseModel):
    """Whether the server answers."""

    status: str
    classes: int
    waiting: int = Field(description="pictures that wait for the encoder")


class Problem(BaseModel):
    """An error, in a sentence."""

    detail: str

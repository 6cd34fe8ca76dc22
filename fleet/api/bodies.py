"""What every JSON body of the API has in common."""

import base64
import binascii
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from modules.errors import Invalid


class Body(BaseModel):
    """A body without unknown keys, and without text that no database or answer could hold."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def whole_characters(cls, value: Any) -> Any:
        """JSON may spell half of a character (a lone surrogate); UTF-8 has none.

        Raises:
            ValueError: there is one, in a key or a value; or it is no JSON at all.
        """
        if isinstance(value, bytes):
            raise ValueError("the body was not sent as JSON: say Content-Type: application/json")  # noqa: TRY004
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("there is half of a character (a lone surrogate) in the text") from error
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        return value


def secret_bytes(value: SecretStr, *, element: str = "value") -> bytes:
    """What was sent in base64, because it is not to be seen.

    Raises:
        Invalid: it is no base64. Nothing of it is in the message.
    """
    try:
        return base64.b64decode(value.get_secret_value(), validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("the value is not in base64", element=element) from None  # what it is stands in the cause

"""The limit to compare with: FastAPI that validates the same body, writes nothing and answers."""

import sys
from typing import Annotated

import uvicorn
from fastapi import Body, FastAPI

from services.api_gateway.schemas import GenerateBody

app = FastAPI()


@app.post("/v1/generate", status_code=202)
async def generate(body: Annotated[GenerateBody, Body()]) -> dict[str, str]:
    return {"id": "job", "prompt": body.prompt}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)

"""GET /: what a browser finds that was told the server's address."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from talkies import __version__

_PAGE = f"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>talkies</title>
<style>
  body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }}
  code {{ font-size: .9em }}
</style>
<h1>talkies {__version__}</h1>
<p>A speech service with OpenAI's API: it turns audio into text and text into speech, on this machine. Give a client of
OpenAI's this address with <code>/v1</code> behind it as its base URL.</p>
<ul>
  <li><a href="docs">The API, to be tried out</a>, or <a href="redoc">to be read</a>, or
    <a href="openapi.json">for programs</a></li>
  <li><a href="v1/models">The models</a> and <a href="v1/audio/voices">the voices</a></li>
  <li><a href="healthz">Whether all is well</a>, and <a href="metrics">metrics</a></li>
</ul>
</html>
"""


def router() -> APIRouter:
    routes = APIRouter()

    @routes.get("/", include_in_schema=False)
    async def home() -> HTMLResponse:
        """Links to what there is; nothing of it comes from elsewhere."""
        return HTMLResponse(_PAGE)

    return routes

"""Where `MEDIAFORGE_MEDIA` says that media are kept."""

from pathlib import Path
from typing import TYPE_CHECKING

from shared.domain.errors import MediaUnavailable
from shared.ports.media import MediaStore
from shared.settings import BadSettings, Settings

if TYPE_CHECKING:
    from shared.adapters.media.local_disk import LocalDisk


async def open_media(settings: Settings) -> MediaStore:
    disk = local_disk_of(settings)
    if disk is None:
        raise BadSettings(f"MEDIAFORGE_MEDIA must be file:///absolute/folder (it is {settings.media!r})")
    try:
        await disk.check()
    except MediaUnavailable as error:
        raise BadSettings(f"MEDIAFORGE_MEDIA: {error.message}") from error
    return disk


def local_disk_of(settings: Settings) -> "LocalDisk | None":
    if not settings.media_url.startswith("file:///"):
        return None
    from shared.adapters.media.local_disk import LocalDisk

    return LocalDisk(Path(settings.media_url.removeprefix("file://")))

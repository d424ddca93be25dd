"""Endings by which media files of a folder are known, in any case; the commoner ones first."""

VIDEO_ENDINGS = (
    *(".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"),
    *(".mts", ".m2ts", ".3gp", ".ogv"),
)
AUDIO_ENDINGS = (
    *(".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac"),
    *(".oga", ".wma", ".aif", ".aiff", ".amr"),
)

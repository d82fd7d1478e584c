"""Views of one episode: the cameras to use, some of its frames, chunks of a long one, arrays that lie on disk."""

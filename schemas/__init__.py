"""Types, conventions and file formats that the packages of LaMP share.

Every other package may import these modules; importing them needs only numpy (and jaxtyping's annotations) at import.
"""

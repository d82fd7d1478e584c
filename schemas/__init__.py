"""What flows between the parts of LaMP: types, conventions and file formats.

Everything here may be imported by every other package and needs only numpy (and jaxtyping's annotations) at import.
"""

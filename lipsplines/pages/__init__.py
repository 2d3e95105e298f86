"""Tables, figures and sliders of the pages."""

// A picture of rectangles, lines and words, as SVG or as PNG: what draws it does not know which.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace fastkv::eval {

struct Color {
    double red = 0, green = 0, blue = 0;  ///< in [0, 1]
};

enum class Anchor { start, middle, end };

class Canvas {
  public:
    virtual ~Canvas() = default;

    /// All in pixels from the upper left corner.
    virtual void rectangle(double x, double y, double width, double height, Color fill) = 0;

    virtual void line(double x1, double y1, double x2, double y2, double thickness, Color color,
                      bool dashed = false) = 0;

    /// `y` is the base line. Without a colour the text has that of the page, which in an SVG follows the reader's
    /// choice of light or dark. `turned` text runs upwards.
    virtual void text(double x, double y, double size, Anchor anchor, const std::string& words,
                      std::optional<Color> color = {}, bool turned = false) = 0;

    /// The file.
    virtual std::string finish() = 0;
};

std::unique_ptr<Canvas> svg_canvas(double width, double height);

/// On white, two pixels to one. Null where fastkv was built without cairo.
std::unique_ptr<Canvas> png_canvas(double width, double height);

/// Whether png_canvas() has anything to draw on.
bool can_draw_png();

}  // namespace fastkv::eval

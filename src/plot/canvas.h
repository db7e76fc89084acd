// A picture of shapes and words, as SVG or as PNG: what draws it does not know which.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace fastkv::plot {

struct Color {
    double red = 0, green = 0, blue = 0;  ///< in [0, 1]
};

/// What something is drawn in: a colour of its own, or a role. What a role looks like follows, in an SVG, the reader's
/// choice of light or dark.
struct Paint {
    enum class Role { fixed, ink, grid, accent, series };

    Paint(Color fixed) : color(fixed) {}  // NOLINT(google-explicit-constructor): a colour is a paint
    static Paint ink() { return Paint(Role::ink, 0); }
    static Paint grid() { return Paint(Role::grid, 0); }
    static Paint accent() { return Paint(Role::accent, 0); }
    /// One of n_series colours that people with any colour vision tell apart; those behind the last begin again.
    static Paint series(int index);

    Role role = Role::fixed;
    Color color;    // of a fixed one
    int index = 0;  // of a series

  private:
    Paint(Role its_role, int its_index) : role(its_role), index(its_index) {}
};

inline constexpr int n_series = 7;

/// CSS for all roles, for pages that hold pictures of Target::svg_in_page: ".ink{color:#222}..." with `before` in front
/// of every selector.
std::string palette_css(bool dark, const std::string& before);

enum class Anchor { start, middle, end };

struct TextStyle {
    double size = 12;
    Anchor anchor = Anchor::start;
    Paint paint = Paint::ink();
    bool turned = false;  ///< runs upwards
    bool bold = false;
};

struct Stroke {
    double thickness = 1;
    Paint paint = Paint::ink();
    bool dashed = false;
    double opacity = 1;
};

using Points = std::vector<std::pair<double, double>>;

class Canvas {
  public:
    virtual ~Canvas() = default;

    /// All in pixels from the upper left corner.
    virtual void rectangle(double x, double y, double width, double height, Paint fill, double opacity = 1) = 0;
    virtual void circle(double x, double y, double radius, Paint fill) = 0;
    virtual void polygon(const Points& corners, Paint fill) = 0;
    virtual void polyline(const Points& points, const Stroke& stroke) = 0;

    /// `y` is the base line.
    virtual void text(double x, double y, const std::string& words, const TextStyle& style) = 0;

    /// What is drawn up to end_group() belongs together; in an SVG `title` is shown to who points at it.
    virtual void begin_group(const std::string& title) = 0;
    virtual void end_group() = 0;

    /// The file.
    virtual std::string finish() = 0;

    void line(double x1, double y1, double x2, double y2, const Stroke& stroke) {
        polyline({{x1, y1}, {x2, y2}}, stroke);
    }
};

enum class Target {
    svg,          ///< a file of its own
    svg_in_page,  ///< an element of an HTML page that has palette_css()
    png,          ///< on white, two pixels to one; as svg where fastkv was built without cairo
};

/// `name` says what the picture shows, to who cannot see it.
std::unique_ptr<Canvas> make_canvas(Target target, double width, double height, const std::string& name);

/// Whether there is anything to draw a PNG with.
bool can_draw_png();

}  // namespace fastkv::plot

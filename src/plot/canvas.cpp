#include "plot/canvas.h"

#include <array>
#include <cmath>

#include "text/format.h"
#include "text/markup.h"

#ifdef FASTKV_HAVE_CAIRO
#include <cairo/cairo.h>
#endif

namespace fastkv::plot {

namespace {

using text::escaped;
using text::format;

struct Palette {
    Color page, ink, grid, accent;
    std::array<Color, n_series> series;
};

constexpr Color rgb(unsigned hex) { return {(hex >> 16) / 255.0, (hex >> 8 & 255) / 255.0, (hex & 255) / 255.0}; }

/// After Okabe and Ito (2008), for any colour vision; darker on light pages and lighter on dark ones, so that each has
/// a contrast of 3 to 1 and more.
constexpr Palette light_palette = {
    rgb(0xFFFFFF),
    rgb(0x222222),
    rgb(0x999999),
    rgb(0xC2410C),
    {rgb(0x0072B2), rgb(0xD55E00), rgb(0x00875F), rgb(0xB0508C), rgb(0x6F4FC0), rgb(0x8A6D00), rgb(0x6B6B6B)}};
constexpr Palette dark_palette = {
    rgb(0x16181C),
    rgb(0xDDDDDD),
    rgb(0x777777),
    rgb(0xFB923C),
    {rgb(0x56B4E9), rgb(0xFF8F3F), rgb(0x2FC79A), rgb(0xF08FC4), rgb(0xB39DFF), rgb(0xE3C23C), rgb(0xA8A8A8)}};

int byte_of(double share) { return int(std::lround(255 * share)); }

std::string hex(Color color) {
    return format("#%02x%02x%02x", byte_of(color.red), byte_of(color.green), byte_of(color.blue));
}

class SvgCanvas : public Canvas {
  public:
    SvgCanvas(double width, double height, const std::string& name, bool in_page) {
        svg_ = format("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %.0f %.0f' width='%.0f' height='%.0f' ",
                      width, height, width, height);
        svg_ += "role='img' aria-label='" + escaped(name) + "'";
        // Smaller nobody could read it; the page lets it scroll.
        if (in_page) svg_ += format(" class='plot' style='min-width: %.0fpx'", 0.72 * width);
        svg_ += ">\n";
        if (in_page) return;
        svg_ += "<style>\n  text { font-family: 'DejaVu Sans', Helvetica, Arial, sans-serif; }\n  " +
                palette_css(/*dark=*/false, "") + "\n  @media (prefers-color-scheme: dark) { " +
                palette_css(/*dark=*/true, "") + " }\n</style>\n" +
                "<rect class='page' fill='currentColor' width='100%' height='100%'/>\n";
    }

    void rectangle(double x, double y, double width, double height, Paint fill, double opacity) override {
        svg_ += format("<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' ", x, y, width, height);
        svg_ += painted("fill", fill) + opaque("fill", opacity) + "/>\n";
    }

    void circle(double x, double y, double radius, Paint fill) override {
        svg_ += format("<circle cx='%.1f' cy='%.1f' r='%.1f' ", x, y, radius) + painted("fill", fill) + "/>\n";
    }

    void polygon(const Points& corners, Paint fill) override {
        svg_.append("<polygon points='").append(list(corners)).append("' ") += painted("fill", fill) + "/>\n";
    }

    void polyline(const Points& points, const Stroke& stroke) override {
        if (points.size() == 2) {
            svg_ += format("<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' ", points[0].first, points[0].second,
                           points[1].first, points[1].second);
        } else {
            svg_ += "<polyline fill='none' stroke-linejoin='round' points='" + list(points) + "' ";
        }
        svg_ += format("stroke-width='%.1f' stroke-linecap='round' ", stroke.thickness) +
                painted("stroke", stroke.paint) + opaque("stroke", stroke.opacity) +
                (stroke.dashed ? " stroke-dasharray='4 5'" : "") + "/>\n";
    }

    void text(double x, double y, const std::string& words, const TextStyle& style) override {
        static constexpr const char* names[] = {"start", "middle", "end"};
        svg_ += format("<text x='%.1f' y='%.1f' font-size='%.0f' text-anchor='%s' ", x, y, style.size,
                       names[int(style.anchor)]);
        svg_ += painted("fill", style.paint) + (style.bold ? " font-weight='bold'" : "");
        if (style.turned) svg_ += format(" transform='rotate(-90 %.1f %.1f)'", x, y);
        svg_.append(">").append(escaped(words)).append("</text>\n");
    }

    void begin_group(const std::string& title) override {
        svg_.append("<g><title>").append(escaped(title)).append("</title>\n");
    }
    void end_group() override { svg_ += "</g>\n"; }

    std::string finish() override { return svg_ + "</svg>\n"; }

  private:
    /// A role is a class that sets `color`.
    static std::string painted(const char* property, const Paint& paint) {
        std::string name;
        switch (paint.role) {
            case Paint::Role::fixed: return format("%s='%s'", property, hex(paint.color).c_str());
            case Paint::Role::ink: name = "ink"; break;
            case Paint::Role::grid: name = "grid"; break;
            case Paint::Role::accent: name = "accent"; break;
            case Paint::Role::series: name = format("s%d", paint.index); break;
        }
        return format("class='%s' %s='currentColor'", name.c_str(), property);
    }

    static std::string opaque(const char* property, double opacity) {
        return opacity < 1 ? format(" %s-opacity='%.2f'", property, opacity) : "";
    }

    static std::string list(const Points& points) {
        std::string text;
        for (const auto& [x, y] : points) text += format(text.empty() ? "%.1f,%.1f" : " %.1f,%.1f", x, y);
        return text;
    }

    std::string svg_;
};

#ifdef FASTKV_HAVE_CAIRO

Color color_of(const Paint& paint, const Palette& palette) {
    switch (paint.role) {
        case Paint::Role::fixed: return paint.color;
        case Paint::Role::ink: return palette.ink;
        case Paint::Role::grid: return palette.grid;
        case Paint::Role::accent: return palette.accent;
        case Paint::Role::series: return palette.series[size_t(paint.index)];
    }
    return palette.ink;
}

class PngCanvas : public Canvas {
  public:
    PngCanvas(double width, double height)
        : surface_(cairo_image_surface_create(CAIRO_FORMAT_RGB24, int(std::ceil(scale * width)),
                                              int(std::ceil(scale * height))),
                   cairo_surface_destroy),
          cairo_(cairo_create(surface_.get()), cairo_destroy) {
        use(light_palette.page, 1);
        cairo_paint(cairo_.get());  // the last pixels too, where the size is no whole number
        cairo_scale(cairo_.get(), scale, scale);
        cairo_set_line_join(cairo_.get(), CAIRO_LINE_JOIN_ROUND);
    }

    void rectangle(double x, double y, double width, double height, Paint fill, double opacity) override {
        use(fill, opacity);
        cairo_rectangle(cairo_.get(), x, y, width, height);
        cairo_fill(cairo_.get());
    }

    void circle(double x, double y, double radius, Paint fill) override {
        use(fill, 1);
        cairo_new_path(cairo_.get());
        cairo_arc(cairo_.get(), x, y, radius, 0, 2 * std::acos(-1.0));
        cairo_fill(cairo_.get());
    }

    void polygon(const Points& corners, Paint fill) override {
        use(fill, 1);
        follow(corners);
        cairo_fill(cairo_.get());
    }

    void polyline(const Points& points, const Stroke& stroke) override {
        use(stroke.paint, stroke.opacity);
        cairo_set_line_width(cairo_.get(), stroke.thickness);
        cairo_set_line_cap(cairo_.get(), CAIRO_LINE_CAP_ROUND);
        constexpr double dashes[] = {4, 5};
        cairo_set_dash(cairo_.get(), dashes, stroke.dashed ? 2 : 0, 0);
        follow(points);
        cairo_stroke(cairo_.get());
    }

    void text(double x, double y, const std::string& words, const TextStyle& style) override {
        cairo_t* cairo = cairo_.get();
        cairo_save(cairo);
        use(style.paint, 1);
        cairo_select_font_face(cairo, "sans-serif", CAIRO_FONT_SLANT_NORMAL,
                               style.bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
        cairo_set_font_size(cairo, style.size);
        cairo_text_extents_t extents{};
        cairo_text_extents(cairo, words.c_str(), &extents);
        const double shift = style.anchor == Anchor::start ? 0 : style.anchor == Anchor::middle ? 0.5 : 1;
        cairo_translate(cairo, x, y);
        if (style.turned) cairo_rotate(cairo, -std::acos(-1.0) / 2);
        cairo_move_to(cairo, -shift * extents.x_advance, 0);
        cairo_show_text(cairo, words.c_str());
        cairo_restore(cairo);
    }

    void begin_group(const std::string&) override {}
    void end_group() override {}

    std::string finish() override {
        std::string png;
        const auto append = [](void* target, const unsigned char* bytes, unsigned n) {
            static_cast<std::string*>(target)->append(reinterpret_cast<const char*>(bytes), n);
            return CAIRO_STATUS_SUCCESS;
        };
        cairo_surface_flush(surface_.get());
        cairo_surface_write_to_png_stream(surface_.get(), append, &png);
        return png;
    }

  private:
    static constexpr double scale = 2;

    void use(const Paint& paint, double opacity) {
        const Color color = color_of(paint, light_palette);
        cairo_set_source_rgba(cairo_.get(), color.red, color.green, color.blue, opacity);
    }

    void follow(const Points& points) {
        cairo_new_path(cairo_.get());
        for (const auto& [x, y] : points) cairo_line_to(cairo_.get(), x, y);
    }

    std::unique_ptr<cairo_surface_t, void (*)(cairo_surface_t*)> surface_;
    std::unique_ptr<cairo_t, void (*)(cairo_t*)> cairo_;
};

#endif

}  // namespace

Paint Paint::series(int index) { return Paint(Role::series, index % n_series); }

std::string palette_css(bool dark, const std::string& before) {
    const Palette& palette = dark ? dark_palette : light_palette;
    std::string css;
    const auto add = [&](const std::string& name, Color color) {
        css += (css.empty() ? "" : " ") + before + "." + name + " { color: " + hex(color) + "; }";
    };
    add("page", palette.page);
    add("ink", palette.ink);
    add("grid", palette.grid);
    add("accent", palette.accent);
    for (size_t i = 0; i < palette.series.size(); ++i) add(format("s%zu", i), palette.series[i]);
    return css;
}

std::unique_ptr<Canvas> make_canvas(Target target, double width, double height, const std::string& name) {
#ifdef FASTKV_HAVE_CAIRO
    if (target == Target::png) return std::make_unique<PngCanvas>(width, height);
#endif
    return std::make_unique<SvgCanvas>(width, height, name, target == Target::svg_in_page);
}

bool can_draw_png() {
#ifdef FASTKV_HAVE_CAIRO
    return true;
#else
    return false;
#endif
}

}  // namespace fastkv::plot

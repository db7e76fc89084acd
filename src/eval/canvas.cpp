#include "eval/canvas.h"

#include <cmath>
#include <cstdio>

#include "eval/format.h"

#ifdef FASTKV_HAVE_CAIRO
#include <cairo/cairo.h>
#endif

namespace fastkv::eval {

namespace {

int byte_of(double share) { return int(std::lround(255 * share)); }

std::string escaped(const std::string& words) {
    std::string xml;
    for (const char c : words) {
        if (c == '<')
            xml += "&lt;";
        else if (c == '>')
            xml += "&gt;";
        else if (c == '&')
            xml += "&amp;";
        else
            xml += c;
    }
    return xml;
}

class SvgCanvas : public Canvas {
  public:
    SvgCanvas(double width, double height) {
        svg_ = format("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %.0f %.0f' width='%.0f' height='%.0f'>\n",
                      width, height, width, height);
        svg_ +=
            "<style>\n"
            "  text { font-family: 'DejaVu Sans', Helvetica, Arial, sans-serif; }\n"
            "  .page { fill: #fff; } .ink { fill: #222; }\n"
            "  @media (prefers-color-scheme: dark) { .page { fill: #16181c; } .ink { fill: #ddd; } }\n"
            "</style>\n"
            "<rect class='page' width='100%' height='100%'/>\n";
    }

    void rectangle(double x, double y, double width, double height, Color fill) override {
        svg_ += format("<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' fill='%s'/>\n", x, y, width, height,
                       hex(fill).c_str());
    }

    void line(double x1, double y1, double x2, double y2, double thickness, Color color, bool dashed) override {
        svg_ += format("<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' ", x1, y1, x2, y2);
        svg_ += format("stroke-width='%.1f' stroke-linecap='round' stroke='%s'%s/>\n", thickness, hex(color).c_str(),
                       dashed ? " stroke-dasharray='4 5'" : "");
    }

    void text(double x, double y, double size, Anchor anchor, const std::string& words, std::optional<Color> color,
              bool turned) override {
        static constexpr const char* names[] = {"start", "middle", "end"};
        svg_ += format("<text x='%.1f' y='%.1f' font-size='%.0f' text-anchor='%s' ", x, y, size, names[int(anchor)]);
        svg_ += color ? format("fill='%s'", hex(*color).c_str()) : "class='ink'";
        if (turned) svg_ += format(" transform='rotate(-90 %.1f %.1f)'", x, y);
        svg_.append(">").append(escaped(words)).append("</text>\n");
    }

    std::string finish() override { return svg_ + "</svg>\n"; }

  private:
    static std::string hex(Color color) {
        return format("#%02x%02x%02x", byte_of(color.red), byte_of(color.green), byte_of(color.blue));
    }

    std::string svg_;
};

#ifdef FASTKV_HAVE_CAIRO

class PngCanvas : public Canvas {
  public:
    PngCanvas(double width, double height)
        : surface_(cairo_image_surface_create(CAIRO_FORMAT_RGB24, int(std::ceil(scale * width)),
                                              int(std::ceil(scale * height))),
                   cairo_surface_destroy),
          cairo_(cairo_create(surface_.get()), cairo_destroy) {
        cairo_scale(cairo_.get(), scale, scale);
        rectangle(0, 0, width, height, {1, 1, 1});
        cairo_select_font_face(cairo_.get(), "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    }

    void rectangle(double x, double y, double width, double height, Color fill) override {
        cairo_set_source_rgb(cairo_.get(), fill.red, fill.green, fill.blue);
        cairo_rectangle(cairo_.get(), x, y, width, height);
        cairo_fill(cairo_.get());
    }

    void line(double x1, double y1, double x2, double y2, double thickness, Color color, bool dashed) override {
        cairo_set_source_rgb(cairo_.get(), color.red, color.green, color.blue);
        cairo_set_line_width(cairo_.get(), thickness);
        cairo_set_line_cap(cairo_.get(), CAIRO_LINE_CAP_ROUND);
        cairo_move_to(cairo_.get(), x1, y1);
        cairo_line_to(cairo_.get(), x2, y2);
        constexpr double dashes[] = {4, 5};
        cairo_set_dash(cairo_.get(), dashes, dashed ? 2 : 0, 0);
        cairo_stroke(cairo_.get());
    }

    void text(double x, double y, double size, Anchor anchor, const std::string& words, std::optional<Color> color,
              bool turned) override {
        const Color ink = color.value_or(Color{0.13, 0.13, 0.13});
        cairo_t* cairo = cairo_.get();
        cairo_save(cairo);
        cairo_set_source_rgb(cairo, ink.red, ink.green, ink.blue);
        cairo_set_font_size(cairo, size);
        cairo_text_extents_t extents{};
        cairo_text_extents(cairo, words.c_str(), &extents);
        const double shift = anchor == Anchor::start ? 0 : anchor == Anchor::middle ? 0.5 : 1;
        cairo_translate(cairo, x, y);
        if (turned) cairo_rotate(cairo, -std::acos(-1.0) / 2);
        cairo_move_to(cairo, -shift * extents.x_advance, 0);
        cairo_show_text(cairo, words.c_str());
        cairo_restore(cairo);
    }

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

    std::unique_ptr<cairo_surface_t, void (*)(cairo_surface_t*)> surface_;
    std::unique_ptr<cairo_t, void (*)(cairo_t*)> cairo_;
};

#endif

}  // namespace

std::unique_ptr<Canvas> svg_canvas(double width, double height) { return std::make_unique<SvgCanvas>(width, height); }

#ifdef FASTKV_HAVE_CAIRO
std::unique_ptr<Canvas> png_canvas(double width, double height) { return std::make_unique<PngCanvas>(width, height); }
bool can_draw_png() { return true; }
#else
std::unique_ptr<Canvas> png_canvas(double, double) { return nullptr; }
bool can_draw_png() { return false; }
#endif

}  // namespace fastkv::eval

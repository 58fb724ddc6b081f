// Not compiled where this package was made: there was no Swift compiler. pixels.c was, with its check.
import CoreGraphics
import Foundation
import onnxruntime_objc

struct About: Decodable {
    struct File: Decodable {
        let name, file, input, input_type, output: String
        let input_shape: [Int]
        let session_options: [String: String]
    }

    let `default`, output_kind: String
    let labels: [String]?
    let files: [File]
}

struct Prediction {
    let label: String
    let score: Double
    let index: Int
}

enum Refused: Error { case picture, model }

/// A model of a folder of the app's bundle; `name` is float or int8.
final class Classifier {
    private let about: About, file: About.File, environment: ORTEnv, session: ORTSession

    init(folder: URL, name: String? = nil) throws {
        let about = try JSONDecoder().decode(About.self, from: Data(contentsOf: folder.appendingPathComponent("model.json")))
        guard let file = about.files.first(where: { $0.name == name ?? about.default }) else { throw Refused.model }
        (self.about, self.file) = (about, file)
        let options = try ORTSessionOptions()
        for (key, value) in file.session_options { try options.addConfigEntry(withKey: key, value: value) }
        environment = try ORTEnv(loggingLevel: .error)
        let path = folder.appendingPathComponent(file.file).path
        session = try ORTSession(env: environment, modelPath: path, sessionOptions: options)
    }

    /// The most probable classes of an upright picture, most probable first; of a regression all values.
    func classify(_ image: CGImage, top: Int = 5) throws -> [Prediction] {
        let isBytes = file.input_type == "uint8"
        let given = try ORTValue(tensorData: NSMutableData(data: input(image, isBytes)), elementType: isBytes ? .uInt8 : .float,
                                 shape: file.input_shape.map { NSNumber(value: $0) })
        guard let made = try session.run(withInputs: [file.input: given], outputNames: [file.output], runOptions: nil)[file.output]
        else { throw Refused.model }
        let values = (try made.tensorData() as Data).withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        let all = scores(values).enumerated().map { Prediction(label: about.labels?[$0] ?? String($0), score: $1, index: $0) }
        return about.output_kind == "regression" ? all : Array(all.sorted { $0.score > $1.score }.prefix(top))
    }

    /// What the model takes: Pillow's resize and crop, to one grey level.
    private func input(_ image: CGImage, _ isBytes: Bool) throws -> Data {
        let rgb = try Self.rgb(image)
        var recipe = RECIPE
        let count = 3 * Int(recipe.height) * Int(recipe.width)
        guard let pixels = preprocessed(rgb, Int32(image.width), Int32(image.height), &recipe) else { throw Refused.picture }
        defer { free(pixels) }
        if isBytes { return Data(bytes: pixels, count: count) }
        var numbers = [Float](repeating: 0, count: count)
        normalized(pixels, &recipe, &numbers)
        return numbers.withUnsafeBytes { Data($0) }
    }

    private static func rgb(_ image: CGImage) throws -> [UInt8] {
        var rgba = [UInt8](repeating: 0, count: 4 * image.width * image.height)
        let drawn = rgba.withUnsafeMutableBytes { place -> Bool in
            guard let context = CGContext(data: place.baseAddress, width: image.width, height: image.height, bitsPerComponent: 8,
                                          bytesPerRow: 4 * image.width, space: image.colorSpace ?? CGColorSpaceCreateDeviceRGB(),
                                          bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue) else { return false }
            context.draw(image, in: CGRect(x: 0, y: 0, width: image.width, height: image.height))
            return true
        }
        guard drawn else { throw Refused.picture }
        return rgba.enumerated().filter { $0.offset % 4 != 3 }.map(\.element)
    }

    private func scores(_ values: [Float]) -> [Double] {
        let wide = values.map(Double.init)
        func sigmoid(_ value: Double) -> Double { 1 / (1 + exp(-value)) }
        switch about.output_kind {
        case "single_label_logits":
            let most = wide.max() ?? 0, powers = wide.map { exp($0 - most) }, sum = powers.reduce(0, +)
            return powers.map { $0 / sum }
        case "multi_label_logits": return wide.map(sigmoid)
        case "binary_logit": return [1 - sigmoid(wide[0]), sigmoid(wide[0])]
        case "binary_probability": return [1 - wide[0], wide[0]]
        default: return wide
        }
    }
}

// Not compiled where this package was made, and never with the Android SDK. vit-edge's tests compile it with Kotlin 1.3
// against stand-ins for the classes of Android and onnxruntime that it uses, and hold its answers to Python's.
package vitedge

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import android.content.res.AssetManager
import android.graphics.Bitmap
import java.nio.ByteBuffer
import java.nio.FloatBuffer
import kotlin.math.exp
import org.json.JSONArray
import org.json.JSONObject

/** pixels.c: Pillow's resize and crop, to one grey level. */
object Pixels {
    init {
        System.loadLibrary("vit_edge")
    }

    external fun bytes(rgb: ByteArray, width: Int, height: Int): ByteArray?

    external fun numbers(rgb: ByteArray, width: Int, height: Int): FloatArray?
}

data class Prediction(val label: String, val score: Double, val index: Int)

/** A model of the assets folder; `name` is float or int8. */
class Classifier(assets: AssetManager, name: String? = null) : AutoCloseable {
    private val about = JSONObject(assets.open("model.json").use { String(it.readBytes()) })
    private val kind = about.getString("output_kind")
    private val labels = about.optJSONArray("labels")
    private val file = chosen(about.getJSONArray("files"), name ?: about.getString("default"))
    private val input = file.getString("input")
    private val shape = file.getJSONArray("input_shape").let { LongArray(it.length()) { i -> it.getLong(i) } }
    private val environment = OrtEnvironment.getEnvironment().apply { setTelemetry(false) }
    private val session = OrtSession.SessionOptions().use { options ->
        val entries = file.getJSONObject("session_options")
        for (key in entries.keys()) options.addConfigEntry(key, entries.getString(key))
        environment.createSession(assets.open(file.getString("file")).use { it.readBytes() }, options)
    }

    /** The most probable classes of an upright picture, most probable first; of a regression all values. */
    fun classify(bitmap: Bitmap, top: Int = 5): List<Prediction> {
        val picture = tensor(rgb(bitmap), bitmap.width, bitmap.height)
        val values = picture.use { given ->
            session.run(mapOf(input to given), setOf(file.getString("output"))).use { made ->
                @Suppress("UNCHECKED_CAST")
                (made.get(0).value as Array<FloatArray>)[0]
            }
        }
        val all = scores(values).mapIndexed { index, score ->
            Prediction(labels?.getString(index) ?: index.toString(), score, index)
        }
        return if (kind == "regression") all else all.sortedByDescending { it.score }.take(top)
    }

    override fun close() = session.close()

    private fun tensor(rgb: ByteArray, width: Int, height: Int): OnnxTensor {
        if (file.getString("input_type") == "uint8") {
            val bytes = requireNotNull(Pixels.bytes(rgb, width, height)) { "the picture cannot be resized" }
            return OnnxTensor.createTensor(environment, ByteBuffer.wrap(bytes), shape, OnnxJavaType.UINT8)
        }
        val numbers = requireNotNull(Pixels.numbers(rgb, width, height)) { "the picture cannot be resized" }
        return OnnxTensor.createTensor(environment, FloatBuffer.wrap(numbers), shape)
    }

    private fun scores(values: FloatArray): List<Double> = when (kind) {
        "single_label_logits" -> {
            val most = values.fold(Float.NEGATIVE_INFINITY) { one, other -> maxOf(one, other) }
            val powers = values.map { exp((it - most).toDouble()) }
            powers.map { it / powers.sum() }
        }
        "multi_label_logits" -> values.map { sigmoid(it) }
        "binary_logit" -> sigmoid(values[0]).let { listOf(1 - it, it) }
        "binary_probability" -> values[0].toDouble().let { listOf(1 - it, it) }
        else -> values.map { it.toDouble() }
    }
}

private fun chosen(files: JSONArray, name: String): JSONObject =
    (0 until files.length()).map { files.getJSONObject(it) }.first { it.getString("name") == name }

private fun sigmoid(value: Float): Double = 1 / (1 + exp(-value.toDouble()))

/** Without transparency, as the models are trained. */
private fun rgb(bitmap: Bitmap): ByteArray {
    val colours = IntArray(bitmap.width * bitmap.height)
    bitmap.getPixels(colours, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
    val made = ByteArray(3 * colours.size)
    colours.forEachIndexed { index, colour ->
        made[3 * index] = (colour shr 16).toByte()
        made[3 * index + 1] = (colour shr 8).toByte()
        made[3 * index + 2] = colour.toByte()
    }
    return made
}
